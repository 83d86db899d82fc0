"""Recording attempts: what came of each, when its delivery is due again, and how its endpoint fares, in one transaction
guarded by the number of the attempt."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from common.database import driver_as_owner
from common.sql_arrays import arrays
from common.webhook_schedule import FAILING_DAYS, next_delay
from worker import disabling
from worker.sender import Attempt


def record(attempts: Sequence[Attempt]) -> None:
    """Writes what came of these attempts, each at most once; those of a delivery that is no longer this process's are
    dropped. Safe to call again after a lost connection, whether or not it had committed."""
    with driver_as_owner() as connection:
        with connection.pipeline():
            # Endpoints before their deliveries, as whoever disables one locks them.
            connection.execute(_SET_HEALTH, arrays(_health(attempts)))
            connection.execute(_RECORD, arrays(_columns(attempts)) | {"answers": [a.answer for a in attempts]})
            failing = connection.execute(_FAILING_LONG, {"ids": _failed(attempts), "days": FAILING_DAYS})
        gone = {attempt.delivery.endpoint_id for attempt in attempts if attempt.failure == "gone"}
        disabling.disable(connection, sorted(gone), "gone")
        disabling.disable(connection, [endpoint_id for (endpoint_id,) in failing], "failing")


def _columns(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    now = time.monotonic()
    return {
        "ids": [a.delivery.id for a in attempts],
        "numbers": [a.delivery.number for a in attempts],
        "agos": [now - a.began for a in attempts],
        "milliseconds": [round(a.seconds * 1000) for a in attempts],
        "status_codes": [a.status_code for a in attempts],
        "failures": [a.failure for a in attempts],
        # Who is gone is not asked again.
        "delays": [
            None if a.failure == "gone" else next_delay(a.delivery.scheduled, a.asked_seconds) for a in attempts
        ],
    }


def _failed(attempts: Sequence[Attempt]) -> list[UUID]:
    return sorted({attempt.delivery.endpoint_id for attempt in attempts if attempt.failure is not None})


@dataclass(slots=True)
class _Health:
    """Whether an endpoint has answered with a 2xx, and how long ago the first failure after that began."""

    answered: bool = False
    failing_for: float | None = None


def _health(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    """What attempts say of their endpoints, in the order in which they ended."""
    now = time.monotonic()
    found: dict[UUID, _Health] = {}
    for attempt in sorted(attempts, key=lambda a: a.began + a.seconds):
        health = found.setdefault(attempt.delivery.endpoint_id, _Health())
        if attempt.failure is None:
            health.answered, health.failing_for = True, None
        elif health.failing_for is None:
            health.failing_for = now - attempt.began
    return {
        "ids": sorted(found),
        "answered": [found[endpoint_id].answered for endpoint_id in sorted(found)],
        "failing_fors": [found[endpoint_id].failing_for for endpoint_id in sorted(found)],
    }


# One that fares as it did is not written: most always answer.
_SET_HEALTH = """
    WITH told AS MATERIALIZED (
        SELECT id, answered, clock_timestamp() - make_interval(secs => failing_for) AS since
        FROM unnest(%(ids)s::uuid[], %(answered)s::boolean[], %(failing_fors)s::double precision[])
            AS t (id, answered, failing_for)
    ), locked AS MATERIALIZED (
        SELECT e.id FROM webhook_endpoints e JOIN told t ON t.id = e.id
        WHERE (e.failing_since IS NULL) = (t.since IS NOT NULL) OR (t.answered AND e.failing_since IS NOT NULL)
        ORDER BY e.id FOR NO KEY UPDATE OF e
    )
    UPDATE webhook_endpoints e SET failing_since = CASE
        WHEN t.answered THEN t.since ELSE coalesce(e.failing_since, t.since) END
    FROM told t JOIN locked l ON l.id = t.id WHERE e.id = t.id
"""

# Times are of the database's clock: an attempt began so long ago, and the next follows so long from now.
_RECORD = """
    WITH told AS MATERIALIZED (
        SELECT * FROM unnest(%(ids)s::uuid[], %(numbers)s::int[], %(agos)s::double precision[],
            %(milliseconds)s::int[], %(status_codes)s::smallint[], %(failures)s::text[], %(answers)s::bytea[],
            %(delays)s::double precision[])
            AS t (id, number, ago, milliseconds, status_code, failure, answer, delay)
    ), live AS MATERIALIZED (
        SELECT d.id, d.account_id FROM deliveries d JOIN told t ON t.id = d.id AND t.number = d.attempts
        WHERE d.state = 'sending' ORDER BY d.id FOR UPDATE OF d
    ), logged AS (
        INSERT INTO attempts (delivery_id, number, account_id, started_at, milliseconds, status_code, failure, answer)
        SELECT t.id, t.number, live.account_id, clock_timestamp() - make_interval(secs => t.ago), t.milliseconds,
            t.status_code, t.failure, t.answer
        FROM told t JOIN live ON live.id = t.id
    ), moved AS MATERIALIZED (
        SELECT t.id, CASE WHEN t.failure IS NULL THEN 'delivered' WHEN t.delay IS NULL THEN 'failed' ELSE 'pending' END
            AS state, t.delay
        FROM told t JOIN live ON live.id = t.id
    )
    UPDATE deliveries d SET state = m.state, lease_until = NULL,
        next_attempt_at = CASE WHEN m.state = 'pending' THEN clock_timestamp() + make_interval(secs => m.delay) END,
        ended_at = CASE WHEN m.state <> 'pending' THEN clock_timestamp() END
    FROM moved m WHERE d.id = m.id
"""

_FAILING_LONG = """
    SELECT id FROM webhook_endpoints WHERE id = ANY (%(ids)s::uuid[]) AND state = 'enabled'
        AND failing_since < now() - make_interval(days => %(days)s)
    ORDER BY id
"""
