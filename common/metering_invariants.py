"""What must be true of metering: what was used is told, once, and Stripe gets it in time. As in common/invariants.py,
each check reads one snapshot and returns findings."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from common import ids
from common.invariants import Finding
from common.metering import WHOLE_LOOK_BACK, WINDOW
from common.stripe_prices import METER

# Stripe makes an invoice final an hour after its period; a portion that waits for long may miss its own.
LATE = timedelta(hours=6)
# A receipt may have been recorded too late for all passes but the next whole one.
UNTOLD_AFTER = timedelta(hours=30)
SHOWN_PROBLEM_CHARACTERS = 300


def outbox(connection: Connection) -> list[Finding]:
    """Portions that Stripe refused or may have, and those that wait for too long. Reads those alone that are open."""
    parameters = {"late": LATE, "window": WINDOW}
    return [_of_outbox(row) for row in connection.execute(_OUTBOX, parameters)]


def _of_outbox(row: Any) -> Finding:
    told = f"{row.portions} portions with {row.tokens} tokens, from {row.first_hour:%Y-%m-%d %H:%M} on, "
    match row.kind:
        case "failed":
            told += "were refused by Stripe"
        case "in_doubt":
            told += "may be at Stripe or not, and its sums do not tell"
        case _:
            told += f"are not delivered; the first can be until {row.closes_at:%Y-%m-%d %H:%M}"
    if row.problem:
        told += f" ({row.problem[:SHOWN_PROBLEM_CHARACTERS]})"
    return Finding("metering", ids.show("acct_", row.account_id), told)


def receipts(connection: Connection) -> list[Finding]:
    """Hours of which more is told than there are receipts, or less long after. Reads the receipts of Stripe's time."""
    parameters = {"meter": METER, "back": WHOLE_LOOK_BACK, "untold_after": UNTOLD_AFTER}
    return [
        Finding(
            "metering",
            f"{ids.show('acct_', row.account_id)} at {row.hour:%Y-%m-%d %H:%M}",
            f"{row.told} tokens are told; its usage records come to {row.used}",
        )
        for row in connection.execute(_RECEIPTS, parameters)
    ]


_OUTBOX = text("""
    SELECT account_id, kind, count(*) AS portions, sum(tokens)::bigint AS tokens, min(hour) AS first_hour,
        min(used_at) + CAST(:window AS interval) AS closes_at, (array_agg(problem ORDER BY hour, portion))[1] AS problem
    FROM (
        SELECT *, CASE WHEN state IN ('failed', 'in_doubt') THEN state ELSE 'late' END AS kind FROM meter_outbox
        WHERE state <> 'delivered'
    ) AS open
    WHERE kind <> 'late' OR used_at < clock_timestamp() - CAST(:late AS interval)
    GROUP BY account_id, kind ORDER BY account_id, kind
""")

# The hour in which metering began is looked at from there on.
_RECEIPTS = text("""
    WITH metered AS MATERIALIZED (
        SELECT id, metered_from,
            date_trunc('hour', greatest(metered_from, clock_timestamp() - CAST(:back AS interval)), 'UTC') AS since
        FROM accounts WHERE stripe_customer_id IS NOT NULL AND metered_from IS NOT NULL
    ), used AS (
        SELECT m.id, date_trunc('hour', u.created_at, 'UTC') AS hour,
            sum(CAST(u.prompt_tokens AS bigint) + u.completion_tokens) AS tokens
        FROM metered m JOIN usage_records u ON u.account_id = m.id AND u.created_at >= m.since
            AND u.created_at >= m.metered_from
        GROUP BY 1, 2
    ), told AS (
        SELECT m.id, o.hour, sum(o.tokens) AS tokens
        FROM metered m JOIN meter_outbox o ON o.account_id = m.id AND o.meter = :meter AND o.hour >= m.since
        GROUP BY 1, 2
    )
    SELECT id AS account_id, hour, coalesce(used.tokens, 0)::bigint AS used, coalesce(told.tokens, 0)::bigint AS told
    FROM used FULL JOIN told USING (id, hour)
    WHERE coalesce(told.tokens, 0) > coalesce(used.tokens, 0) OR coalesce(told.tokens, 0) < coalesce(used.tokens, 0)
        AND hour < clock_timestamp() - CAST(:untold_after AS interval)
    ORDER BY account_id, hour
""")
