"""Putting work on again by hand, where an operator does not want to wait for the sweep or for a lease."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from common import audit, ids, queue
from common.audit import Actor
from common.database import as_owner
from common.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Requeued:
    """Rows that were taken from their workers, and what was put on a queue."""

    rows: int
    claims: int
    put_on: str


def batch(actor: Actor, batch_id: UUID | None) -> Requeued:
    """Takes the rows of a batch from the workers that hold them, so that they are pending again, lets go of what held
    the batch back, and puts its ticket or task on a queue. A worker that lives writes nothing more of these rows, and
    hears of it within seconds; calls that it was making are made again. Raises NotFound, and Conflict for a batch that
    has ended."""
    with as_owner() as connection:
        # In the order in which everybody locks: leased claims, then their batch.
        claims = connection.execute(_LOCK_LEASED, {"batch_id": batch_id}).scalars().all()
        found = connection.execute(_LOCK_BATCH, {"batch_id": batch_id}).one_or_none()
        if found is None or batch_id is None:
            raise NotFound("There is no such batch or single job.", param="batch_id")
        if found.ended_at is not None:
            raise Conflict(f"It has ended: it is {found.state}.", param="batch_id")
        rows = sum(connection.execute(_RETURN, {"ids": list(claims)}).scalars())
        connection.execute(_ADD_RETURNED, {"batch_id": batch_id, "rows": rows})
        details = {"batch": ids.show("batch_", batch_id), "rows": rows, "claims": len(claims)}
        audit.record(connection, actor, "batch.requeue", found.account_id, **details)
    return Requeued(rows, len(claims), _put_on(batch_id, found.state, found.retrying, found.plan))


def _put_on(batch_id: UUID, state: str, retrying: bool, plan: str) -> str:
    """What such a batch waits for."""
    if retrying:
        queue.enqueue_retry(batch_id)
        return "its retry"
    if state == "validating":
        queue.enqueue_ingest(batch_id)
        return "the reading of its input"
    if state in ("cancelling", "expiring"):
        queue.enqueue_close(batch_id)
        return "the ending of its rows"
    if state == "paused":
        return "nothing: it is paused"
    queue.announce_work(plan)
    return f"a ticket of the plan {plan}"


_LOCK_LEASED = text("SELECT id FROM claims WHERE batch_id = :batch_id AND state = 'leased' ORDER BY id FOR UPDATE")
_LOCK_BATCH = text("SELECT account_id, plan, state, retrying, ended_at FROM batches WHERE id = :batch_id FOR UPDATE")
_RETURN = text("""
    UPDATE claims SET state = 'returned', cost = 0, on_trial = false WHERE id = ANY(:ids) RETURNING pending
""")
_ADD_RETURNED = text("""
    UPDATE batches SET returned = returned + :rows, held_back = false WHERE id = :batch_id
""")
