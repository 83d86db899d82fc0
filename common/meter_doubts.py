"""Portions in doubt: nobody knows whether Stripe has them, and to send them again could count twice. Stripe's own sum
of the hour tells: it is that of what was delivered, with what is in doubt or without it."""

import logging
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import text

from common import stripe_meters
from common.database import as_owner
from common.errors import NotFound
from common.meter_outbox import OUTBOX_LOCK
from common.stripe_api import StripeRefused

log = logging.getLogger(__name__)

Verdict = Literal["delivered", "pending"]

HOURS_PER_PASS = 100
# Stripe sums what it took some time later.
SUMMED_AFTER = timedelta(hours=1)


def settle_by_sums() -> int:
    """Ends the doubts that Stripe's sums can end, and returns how many those were. The operator is told of the rest."""
    with as_owner() as connection:
        hours = connection.execute(_HOURS, {"summed_after": SUMMED_AFTER, "limit": HOURS_PER_PASS}).all()
    return sum(_settle_hour(hour) for hour in hours)


def _settle_hour(hour: Any) -> int:
    try:
        summed = stripe_meters.tokens(hour.meter, hour.customer, hour.hour, hour.hour + timedelta(hours=1))
    except StripeRefused as refused:
        # As of a customer that was deleted; the others go on.
        return _tell(hour, f"Stripe does not tell its sum: {refused.told}")
    if summed == hour.delivered + hour.in_doubt:
        return _settle(hour, "delivered")
    if summed == hour.delivered:
        return _settle(hour, "pending")
    return _tell(
        hour, f"Stripe counts {summed} tokens of its hour, of which {hour.delivered} are known to be delivered"
    )


def _tell(hour: Any, problem: str) -> int:
    """Nothing is settled, and why."""
    with as_owner() as connection:
        connection.execute(_TELL, dict(hour._mapping) | {"problem": problem})
    return 0


def _settle(hour: Any, verdict: Verdict) -> int:
    with as_owner() as connection:
        connection.execute(_LOCK, {"lock": OUTBOX_LOCK})
        if connection.execute(_SAME_HOUR, hour._mapping).one() != (hour.delivered, hour.in_doubt, True):
            # Something of the hour was sent meanwhile: the next pass asks again.
            return 0
        return connection.execute(_SETTLE[verdict], hour._mapping).rowcount


def settle_by_hand(identifier: str, verdict: Verdict) -> None:
    """What an operator knows of one that is in doubt. Raises NotFound where it is not."""
    with as_owner() as connection:
        connection.execute(_LOCK, {"lock": OUTBOX_LOCK})
        if connection.execute(_SETTLE_ONE[verdict], {"identifier": identifier}).rowcount == 0:
            raise NotFound(f"No portion {identifier!r} is in doubt: `billing status` lists those that are.")


_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")

# Nothing of the hour may be on its way, nor so new that the sum may be without it: also of what is in doubt the last
# attempt may have been the one that Stripe took.
_OF_HOUR = """
    coalesce(sum(tokens) FILTER (WHERE state = 'delivered'), 0)::bigint AS delivered,
    coalesce(sum(tokens) FILTER (WHERE state = 'in_doubt'), 0)::bigint AS in_doubt,
    bool_and(state <> 'sending' AND (state <> 'pending' OR doubtful_since IS NULL)) AS still
"""

_HOURS = text(f"""
    SELECT * FROM (
        SELECT account_id, customer, meter, hour, max(greatest(delivered_at, attempted_at)) AS last_at, {_OF_HOUR}
        FROM meter_outbox o
        WHERE (account_id, meter, hour) IN (SELECT account_id, meter, hour FROM meter_outbox WHERE state = 'in_doubt')
        GROUP BY account_id, customer, meter, hour
    ) AS of_hour
    WHERE in_doubt > 0 AND still AND last_at < clock_timestamp() - CAST(:summed_after AS interval)
    ORDER BY random() LIMIT :limit
""")

_SAME_HOUR = text(f"""
    SELECT {_OF_HOUR} FROM meter_outbox
    WHERE account_id = :account_id AND customer = :customer AND meter = :meter AND hour = :hour
""")

_VERDICTS: dict[Verdict, str] = {
    "delivered": "SET state = 'delivered', delivered_at = clock_timestamp(), doubtful_since = NULL, problem = NULL",
    "pending": "SET state = 'pending', next_attempt_at = clock_timestamp(), doubtful_since = NULL, problem = NULL",
}

_SETTLE = {
    verdict: text(f"""
        UPDATE meter_outbox {change}
        WHERE account_id = :account_id AND customer = :customer AND meter = :meter AND hour = :hour
            AND state = 'in_doubt'
    """)
    for verdict, change in _VERDICTS.items()
}

_SETTLE_ONE = {
    verdict: text(f"UPDATE meter_outbox {change} WHERE identifier = :identifier AND state = 'in_doubt'")
    for verdict, change in _VERDICTS.items()
}

_TELL = text("""
    UPDATE meter_outbox SET problem = :problem
    WHERE account_id = :account_id AND customer = :customer AND meter = :meter AND hour = :hour AND state = 'in_doubt'
""")
