"""Leases of claims: kept while their jobs run, and given back, or taken back, when they do not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common.database import owner_engine
from worker import suspects
from worker.claims import LEASE_SECONDS, LOCK_BATCHES, ClaimKey
from worker.endings import STOPPED_BY_STATE, Stopped


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease that goes on: how its batch is being stopped, if it is, and whether nothing new of it may start."""

    stopped: Stopped | None
    paused: bool


def renew(held: Collection[ClaimKey]) -> dict[ClaimKey, Renewed]:
    """Extends the leases that a process holds. Returns those that are still its own. A lease that a process took
    without learning of it is not renewed, and comes back by itself."""
    with owner_engine().begin() as connection:
        rows = connection.execute(_RENEW, _columns(held) | {"seconds": LEASE_SECONDS})
        return {(row.id, row.fence): Renewed(STOPPED_BY_STATE.get(row.state), row.paused) for row in rows}


def look(held: Collection[ClaimKey]) -> dict[ClaimKey, Renewed]:
    """As renew, without a write: whether the batches of a process's claims are being stopped or paused."""
    with owner_engine().begin() as connection:
        rows = connection.execute(_LOOK, _columns(held))
        return {(row.id, row.fence): Renewed(STOPPED_BY_STATE.get(row.state), row.paused) for row in rows}


def _columns(keys: Collection[ClaimKey]) -> dict[str, Any]:
    return {"claim_ids": [claim_id for claim_id, _ in keys], "fences": [fence for _, fence in keys]}


def give_back(held: Collection[ClaimKey]) -> set[str]:
    """Makes the rows of these claims that have no result pending again. Returns the plans with new work."""
    if not held:
        return set()
    with owner_engine().begin() as connection:
        returned = connection.execute(_RETURN, _columns(held)).all()
        return _mark_returned(connection, returned)


def begin_trial(held: Collection[ClaimKey]) -> set[ClaimKey]:
    """Writes down that the rows of these claims begin to run, and no other suspected ones of this process. Returns the
    claims that are still its own."""
    with owner_engine().begin() as connection:
        return {(row.id, row.fence) for row in connection.execute(_BEGIN_TRIAL, _columns(held))}


def give_back_expired() -> set[str]:
    """Returns the claims whose lease has ended: their worker is gone. Each counts a death, unless it was suspected and
    waited for its trial. Returns the plans with new work."""
    with owner_engine().begin() as connection:
        parameters = {"suspect_deaths": suspects.SUSPECT_DEATHS}
        returned = connection.execute(_RETURN_EXPIRED, parameters).all()
        plans = _mark_returned(connection, returned)
        suspects.split(connection, returned)
        return plans


def _mark_returned(connection: Connection, returned: Sequence[Any]) -> set[str]:
    rows: dict[UUID, int] = {}
    for claim in returned:
        rows[claim.batch_id] = rows.get(claim.batch_id, 0) + claim.pending
    if not rows:
        return set()
    batch_ids = sorted(rows)
    connection.exec_driver_sql(LOCK_BATCHES, {"batch_ids": batch_ids})
    parameters = {"batch_ids": batch_ids, "rows": [rows[batch_id] for batch_id in batch_ids]}
    return set(connection.execute(_ADD_RETURNED, parameters).scalars())


_RENEW = text("""
    UPDATE claims c SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
    FROM (
        SELECT k.id FROM claims k
        JOIN unnest(CAST(:claim_ids AS uuid[]), CAST(:fences AS bigint[])) AS held (id, fence)
            ON k.id = held.id AND k.fence = held.fence
        WHERE k.state = 'leased' ORDER BY k.id FOR UPDATE OF k
    ) AS mine, batches b, platform p
    WHERE c.id = mine.id AND b.id = c.batch_id
    RETURNING c.id, c.fence, b.state, b.state = 'paused' OR p.stopped_at IS NOT NULL AS paused
""")

_LOOK = text("""
    SELECT c.id, c.fence, b.state, b.state = 'paused' OR p.stopped_at IS NOT NULL AS paused
    FROM unnest(CAST(:claim_ids AS uuid[]), CAST(:fences AS bigint[])) AS held (id, fence)
    JOIN claims c ON c.id = held.id AND c.fence = held.fence JOIN batches b ON b.id = c.batch_id, platform p
    WHERE c.state = 'leased'
""")

_RETURN = text("""
    UPDATE claims SET state = 'returned', cost = 0, on_trial = false WHERE id IN (
        SELECT c.id FROM claims c
        JOIN unnest(CAST(:claim_ids AS uuid[]), CAST(:fences AS bigint[])) AS mine (id, fence)
            ON c.id = mine.id AND c.fence = mine.fence
        WHERE c.state = 'leased' ORDER BY c.id FOR UPDATE OF c
    ) RETURNING batch_id, pending
""")

_BEGIN_TRIAL = text("""
    UPDATE claims SET on_trial = true WHERE id IN (
        SELECT c.id FROM claims c
        JOIN unnest(CAST(:claim_ids AS uuid[]), CAST(:fences AS bigint[])) AS mine (id, fence)
            ON c.id = mine.id AND c.fence = mine.fence
        WHERE c.state = 'leased' ORDER BY c.id FOR UPDATE OF c
    ) RETURNING id, fence
""")

_RETURN_EXPIRED = text("""
    UPDATE claims SET state = 'returned', cost = 0, on_trial = false,
        deaths = deaths + (on_trial OR deaths < :suspect_deaths)::int
    WHERE id IN (
        SELECT id FROM claims WHERE state = 'leased' AND lease_until < now()
        ORDER BY lease_until LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) RETURNING id, batch_id, first_seq, end_seq, pending, deaths
""")

_ADD_RETURNED = text("""
    UPDATE batches b SET returned = b.returned + n.rows, held_back = false
    FROM unnest(CAST(:batch_ids AS uuid[]), CAST(:rows AS int[])) AS n (id, rows)
    WHERE b.id = n.id RETURNING b.plan
""")
