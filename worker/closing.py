"""Closing a cancelled batch: every row that never started gets its cancelled result, in small steps."""

from uuid import UUID

from sqlalchemy import Connection, text

from common.batch_states import finish
from common.database import owner_engine

ROWS_PER_STEP = 5_000


def close(batch_id: UUID) -> None:
    """Ends the rows of a `cancelling` batch that no worker runs. May be run twice, and by several at once."""
    while _step(batch_id):
        pass


def _step(batch_id: UUID) -> bool:
    """One transaction of it; False when nothing is left to do here."""
    with owner_engine().begin() as connection:
        batch = connection.execute(_LOCK, {"batch_id": batch_id}).one_or_none()
        if batch is None:
            return False
        ranges = connection.execute(_TAKE_RETURNED, {"batch_id": batch_id}).all()
        end = min(batch.total, batch.cursor + ROWS_PER_STEP)
        cancelled = sum(_cancel(connection, batch_id, first, last) for first, last in [*ranges, (batch.cursor, end)])
        connection.execute(_ADVANCE, {"batch_id": batch_id, "cursor": end, "cancelled": cancelled})
        finish(connection, [batch_id])
        return bool(end < batch.total)


def _cancel(connection: Connection, batch_id: UUID, first: int, end: int) -> int:
    return connection.execute(_CANCEL, {"batch_id": batch_id, "first": first, "end": end}).rowcount


_LOCK = text("SELECT cursor, total FROM batches WHERE id = :batch_id AND state = 'cancelling' FOR UPDATE")

_TAKE_RETURNED = text(
    "DELETE FROM claims WHERE batch_id = :batch_id AND state = 'returned' RETURNING first_seq, end_seq"
)

_CANCEL = text("""
    INSERT INTO results (batch_id, seq, account_id, outcome, error_code, error_message, attempts, finished_at)
    SELECT batch_id, seq, account_id, 'cancelled', 'cancelled', 'The batch was cancelled.', 0, clock_timestamp()
    FROM jobs WHERE batch_id = :batch_id AND seq >= :first AND seq < :end
    ON CONFLICT DO NOTHING
""")

_ADVANCE = text("""
    UPDATE batches SET cursor = :cursor, returned = 0, cancelled = cancelled + :cancelled WHERE id = :batch_id
""")
