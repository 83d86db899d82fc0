"""Closing a batch that was cancelled, or whose time is over: every row that never started gets its result, in small
steps."""

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from common import queue, quotas
from common.batch_states import finish
from common.database import owner_engine
from common.output_lines import line
from common.reservations import exposure
from worker.endings import STOPPED_BY_STATE, Stopped, reason

ROWS_PER_STEP = 5_000
# The ranges of claims can be wide: a retry's rows lie apart.
CLAIMS_PER_STEP = 20


def close(batch_id: UUID) -> None:
    """Ends the rows of a `cancelling` or `expiring` batch that no worker runs. May be run twice, and by several at
    once."""
    while _step(batch_id):
        pass
    queue.announce_deliveries()


def _step(batch_id: UUID) -> bool:
    """One transaction of it; False when nothing is left to do here."""
    with owner_engine().begin() as connection:
        batch = connection.execute(_LOCK, {"batch_id": batch_id}).one_or_none()
        if batch is None:
            return False
        stopped = STOPPED_BY_STATE[batch.state]
        claims = connection.execute(_TAKE_RETURNED, {"batch_id": batch_id, "limit": CLAIMS_PER_STEP}).all()
        end = min(batch.total, batch.cursor + ROWS_PER_STEP)
        ranges = [*((claim.first_seq, claim.end_seq) for claim in claims), (batch.cursor, end)]
        ended = [_end_rows(connection, batch, stopped, first, last) for first, last in ranges]
        tokens, cost = sum(part.tokens for part in ended), sum(part.cost for part in ended)
        parameters = {
            "batch_id": batch_id,
            "cursor": end,
            "returned": sum(claim.pending for claim in claims),
            "cancelled": 0,
            "expired": 0,
            "error_bytes": sum(part.error_bytes for part in ended),
            "tokens": tokens,
            "cost": cost,
        }
        connection.execute(_ADVANCE, parameters | {stopped: sum(part.rows for part in ended)})
        finish(connection.exec_driver_sql, [batch_id])
        if batch.period_start is not None:
            reserved_cost = max(0, batch.reserved_cost - cost)
            was = exposure(batch.reserved_cost, batch.cost, batch.max_cost)
            freed = was - exposure(reserved_cost, batch.cost, batch.max_cost)
            tokens = min(tokens, batch.reserved_tokens)
            quotas.release(connection, batch.account_id, batch.period_start, tokens, freed)
        return bool(end < batch.total or len(claims) == CLAIMS_PER_STEP)


class _Ended(NamedTuple):
    """Rows that were ended: how many, the bytes of their lines in the error file, and what was held for them."""

    rows: int
    error_bytes: int
    tokens: int
    cost: int


def _end_rows(connection: Connection, batch: Any, stopped: Stopped, first: int, end: int) -> _Ended:
    code, message = reason(stopped, batch.kind == "single")
    parameters = {"batch_id": batch.id, "first": first, "end": end, "outcome": stopped}
    rows = connection.execute(_END_ROWS, parameters | {"code": code, "message": message}).all()
    size = sum(len(line(batch.id, row.seq, row.custom_id, None, None, None, code, message)) for row in rows)
    return _Ended(len(rows), size, sum(row.tokens for row in rows), sum(row.cost for row in rows))


_LOCK = text("""
    SELECT id, account_id, kind, state, cursor, total, period_start, reserved_tokens, reserved_cost, cost, max_cost
    FROM batches
    WHERE id = :batch_id AND state IN ('cancelling', 'expiring') FOR UPDATE
""")

_TAKE_RETURNED = text("""
    DELETE FROM claims WHERE id IN (
        SELECT id FROM claims WHERE batch_id = :batch_id AND state = 'returned' ORDER BY first_seq LIMIT :limit
    ) RETURNING first_seq, end_seq, pending
""")

_END_ROWS = text("""
    WITH open AS (
        SELECT batch_id, seq, account_id, custom_id, tokens, cost FROM jobs
        WHERE batch_id = :batch_id AND seq >= :first AND seq < :end
    ), ended AS (
        INSERT INTO results (batch_id, seq, account_id, outcome, error_code, error_message, attempts, finished_at)
        SELECT batch_id, seq, account_id, :outcome, :code, :message, 0, clock_timestamp() FROM open
        ON CONFLICT DO NOTHING RETURNING seq
    )
    SELECT o.seq, o.custom_id, o.tokens, o.cost FROM ended e JOIN open o ON o.seq = e.seq
""")

_ADVANCE = text("""
    UPDATE batches SET cursor = :cursor, returned = returned - :returned, cancelled = cancelled + :cancelled,
        expired = expired + :expired, error_bytes = error_bytes + :error_bytes,
        reserved_tokens = greatest(0, reserved_tokens - :tokens), reserved_cost = greatest(0, reserved_cost - :cost)
    WHERE id = :batch_id
""")
