"""Taking deliveries that are due, for a while: the fairest to all receivers first, and few of those that fail.

One claim at a time, over all processes: what an endpoint has in flight is counted in the rows themselves.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken

from common import webhook_secrets
from common.database import driver_as_owner, named
from worker import delivery_bodies

log = logging.getLogger(__name__)

DELIVERIES_LOCK = 7_201_005
# Three times what an attempt may take, for its record.
LEASE_SECONDS = 30
# Few enough that outcomes are recorded between two claims.
MAX_CLAIM_DELIVERIES = 64
# In flight to one endpoint.
MAX_SENDING = 16
# The same while it fails, or while half of the process is taken: it may be about to be found out.
MAX_SENDING_FAILING = 2
# The part of a process that the failing endpoints of one account may take.
FAILING_SHARE = 4
# What is written while the statement is on its way is due a little after its time.
AHEAD_SECONDS = 0.005
# A delivery whose process died so often fails: its receiver may be what kills it.
MAX_DEATHS = 8


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that is this process's until its lease ends. `number` counts all its attempts, `scheduled` those of
    the schedule that runs, both with this one; without `secrets` it cannot be signed."""

    id: UUID
    number: int
    scheduled: int
    endpoint_id: UUID
    event_id: UUID
    url: str
    secrets: tuple[str, ...]
    body: bytes


def take(room: int, concurrency: int) -> list[ClaimedDelivery]:
    """Up to `room` deliveries that are due, and up to MAX_CLAIM_DELIVERIES, for a process with so many slots in all."""
    parameters = {
        "room": min(room, MAX_CLAIM_DELIVERIES),
        "busy_room": min(room - concurrency // 2, MAX_CLAIM_DELIVERIES),
        "failing_room": max(1, concurrency // FAILING_SHARE),
        "seconds": LEASE_SECONDS,
        "ahead": AHEAD_SECONDS,
        "max_sending": MAX_SENDING,
        "max_failing": MAX_SENDING_FAILING,
        "max_body": delivery_bodies.MAX_BODY_BYTES,
    }
    with driver_as_owner() as connection:
        with connection.pipeline():
            connection.execute(_LOCK, {"lock": DELIVERIES_LOCK})
            claimed = named(connection, _CLAIM, parameters)
            connection.commit()
        return [_claimed(row) for row in claimed]


def give_back_ended() -> int:
    """Deliveries whose process died, or was held up past its lease, are due again, and the attempt says so. Returns
    how many there were."""
    with driver_as_owner() as connection:
        parameters = {"seconds": LEASE_SECONDS, "max_deaths": MAX_DEATHS}
        return connection.execute(_GIVE_BACK_ENDED, parameters).rowcount


def _claimed(row: Any) -> ClaimedDelivery:
    return ClaimedDelivery(
        row.id,
        row.attempts,
        row.scheduled,
        row.endpoint_id,
        row.event_id,
        row.url,
        _unsealed([sealed for sealed in (row.secret, row.previous_secret) if sealed is not None]),
        delivery_bodies.body(row),
    )


def _unsealed(sealed: Sequence[bytes]) -> tuple[str, ...]:
    try:
        return tuple(_unseal(bytes(secret)) for secret in sealed)
    except InvalidToken:
        log.error("a webhook's secret cannot be read: SECRET_KEY is another than when it was made")
        return ()


_unseal = lru_cache(maxsize=1024)(webhook_secrets.unseal)

_LOCK = "SELECT pg_advisory_xact_lock(%(lock)s)"

# A skip scan finds the endpoints for which something waits, one probe each, however much it is. Each has its places,
# and the first places of all go before the second ones of any. All that is in flight is as much as there are slots.
_CLAIM = """
    WITH RECURSIVE waiting AS (
        (SELECT endpoint_id, next_attempt_at FROM deliveries WHERE state = 'pending'
         ORDER BY endpoint_id, next_attempt_at LIMIT 1)
        UNION ALL
        SELECT following.endpoint_id, following.next_attempt_at FROM waiting, LATERAL (
            SELECT d.endpoint_id, d.next_attempt_at FROM deliveries d
            WHERE d.endpoint_id > waiting.endpoint_id AND d.state = 'pending'
            ORDER BY d.endpoint_id, d.next_attempt_at LIMIT 1
        ) AS following
    ), sending AS MATERIALIZED (
        SELECT endpoint_id, count(*)::int AS deliveries FROM deliveries WHERE state = 'sending' GROUP BY endpoint_id
    ), failing AS MATERIALIZED (
        SELECT e.account_id, sum(s.deliveries) AS deliveries
        FROM sending s JOIN webhook_endpoints e ON e.id = s.endpoint_id
        WHERE e.failing_since IS NOT NULL GROUP BY e.account_id
    ), receivers AS MATERIALIZED (
        SELECT e.id, e.account_id, e.failing_since IS NOT NULL AS is_failing, coalesce(s.deliveries, 0) AS sending
        FROM waiting w JOIN webhook_endpoints e ON e.id = w.endpoint_id LEFT JOIN sending s ON s.endpoint_id = e.id
        WHERE w.next_attempt_at <= statement_timestamp() + make_interval(secs => %(ahead)s) AND e.state = 'enabled'
    ), due AS MATERIALIZED (
        SELECT d.id, d.next_attempt_at, r.account_id, r.is_failing,
            r.sending + row_number() OVER (PARTITION BY r.id ORDER BY d.next_attempt_at, d.id) AS place
        FROM receivers r, LATERAL (
            SELECT p.id, p.next_attempt_at FROM deliveries p
            WHERE p.endpoint_id = r.id AND p.state = 'pending'
                AND p.next_attempt_at <= statement_timestamp() + make_interval(secs => %(ahead)s)
            ORDER BY p.next_attempt_at, p.id
            LIMIT greatest(0, CASE WHEN r.is_failing THEN %(max_failing)s ELSE %(max_sending)s END - r.sending)
        ) AS d
    ), allowed AS (
        SELECT d.id, d.place, d.next_attempt_at, coalesce(f.deliveries, 0)
            + row_number() OVER (PARTITION BY d.account_id, d.is_failing ORDER BY d.place, d.next_attempt_at, d.id)
            <= %(failing_room)s OR NOT d.is_failing AS fits
        FROM due d LEFT JOIN failing f ON f.account_id = d.account_id
    ), turns AS (
        SELECT id, place, row_number() OVER (ORDER BY place, next_attempt_at, id) AS turn FROM allowed WHERE fits
    ), claimed AS (
        UPDATE deliveries SET state = 'sending', attempts = attempts + 1, scheduled = scheduled + 1,
            next_attempt_at = NULL, lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
        WHERE state = 'pending' AND id = ANY (ARRAY(
            SELECT id FROM turns WHERE turn <= CASE WHEN place > %(max_failing)s THEN %(busy_room)s ELSE %(room)s END))
        RETURNING id, attempts, scheduled, endpoint_id, event_id
    )
    SELECT c.*, v.*, e.*, r.*, r.found IS NOT NULL AS has_result FROM claimed c, LATERAL (
        SELECT v.type, v.batch_id, v.data, v.created_at FROM events v WHERE v.id = c.event_id OFFSET 0
    ) AS v, LATERAL (
        SELECT e.url, e.include_result, coalesce(e.secret, w.secret) AS secret,
            CASE WHEN coalesce(e.previous_secret_until, w.previous_secret_until) > now()
                THEN coalesce(e.previous_secret, w.previous_secret) END AS previous_secret
        FROM webhook_endpoints e LEFT JOIN webhook_secrets w ON w.account_id = e.account_id AND e.secret IS NULL
        WHERE e.id = c.endpoint_id OFFSET 0
    ) AS e LEFT JOIN LATERAL (
        SELECT true AS found, r.status_code, r.request_id, r.error_code, r.error_message,
            octet_length(r.body) AS answer_bytes,
            CASE WHEN octet_length(r.body) <= %(max_body)s THEN r.body END AS answer
        FROM results r
        WHERE e.include_result AND v.type LIKE 'job.%%' AND r.batch_id = v.batch_id AND r.seq = 0 OFFSET 0
    ) AS r ON true
"""

_GIVE_BACK_ENDED = """
    WITH ended AS (
        SELECT d.id, d.account_id, d.attempts, d.lease_until - make_interval(secs => %(seconds)s) AS began, (
            SELECT count(*) FROM attempts a WHERE a.delivery_id = d.id AND a.failure = 'process_died'
        ) + 1 >= %(max_deaths)s AS given_up
        FROM deliveries d WHERE d.state = 'sending' AND d.lease_until < now()
        ORDER BY d.id LIMIT 1000 FOR UPDATE OF d SKIP LOCKED
    ), logged AS (
        INSERT INTO attempts (delivery_id, number, account_id, started_at, milliseconds, failure)
        SELECT id, attempts, account_id, began, 0, 'process_died' FROM ended
    )
    UPDATE deliveries d SET state = CASE WHEN e.given_up THEN 'failed' ELSE 'pending' END, scheduled = d.scheduled - 1,
        next_attempt_at = CASE WHEN NOT e.given_up THEN now() END, lease_until = NULL,
        ended_at = CASE WHEN e.given_up THEN now() END
    FROM ended e WHERE d.id = e.id
"""
