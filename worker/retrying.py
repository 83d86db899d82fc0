"""Running rows of an ended batch again: their results are taken back, and the rows are pending as those of returned
claims. What they cost stays: usage records are never touched."""

from collections.abc import Iterable, Iterator
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids, queue, quotas, results
from common.batch_states import finish
from common.database import owner_engine
from common.output_lines import line
from common.reservations import exposure

ROWS_PER_CLAIM = 256
# A claim reads its whole range to find the rows that are its own.
ROWS_PER_RANGE = 10_000


def retry(batch_id: UUID) -> None:
    """Makes the rows pending, all in one transaction. May be run twice."""
    with owner_engine().begin() as connection:
        batch = connection.execute(_LOCK, {"batch_id": batch_id}).one_or_none()
        if batch is None:
            return
        # Cancelled meanwhile: its rows stay as they ended.
        wanted = batch.state in ("in_progress", "paused")
        seqs, error_bytes, counts = _take_back(connection, batch_id) if wanted else ([], 0, _NONE)
        _add_claims(connection, batch_id, batch.account_id, _ranges(seqs))
        parameters = {"batch_id": batch_id, "rows": len(seqs), "error_bytes": error_bytes} | counts
        connection.execute(_MOVE_ON, parameters)
        finish(connection.exec_driver_sql, [batch_id])
        if not wanted:
            cost = exposure(batch.reserved_cost, batch.cost, batch.max_cost)
            quotas.release(connection, batch.account_id, batch.period_start, batch.reserved_tokens, cost)
            connection.execute(_LET_GO, {"batch_id": batch_id})
    queue.announce_work(batch.plan)
    queue.announce_deliveries()


def _take_back(connection: Connection, batch_id: UUID) -> tuple[list[int], int, dict[str, int]]:
    """The rows whose results are deleted, the bytes they had in the error file, and how many there were of a kind."""
    seqs: list[int] = []
    error_bytes = 0
    counts = dict(_NONE)
    # The batch's row is locked and it has ended, so nobody adds or removes results between the two statements.
    rows = connection.execute(_TO_RUN_AGAIN, {"batch_id": batch_id}, execution_options={"yield_per": 1_000})
    for row in rows:
        seqs.append(row.seq)
        counts[row.outcome] += 1
        error_bytes += len(
            line(
                batch_id, row.seq, row.custom_id, row.status_code, row.request_id, row.body, row.error_code,
                row.error_message,
            )
        )  # fmt: skip
    connection.execute(_TAKE_BACK, {"batch_id": batch_id})
    return seqs, error_bytes, counts


def _ranges(seqs: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """First row, end, and number of rows, of claims over these rows."""
    first, last, rows = -1, -1, 0
    for seq in seqs:
        if rows and (rows == ROWS_PER_CLAIM or seq - first >= ROWS_PER_RANGE):
            yield first, last + 1, rows
            rows = 0
        if not rows:
            first = seq
        last = seq
        rows += 1
    if rows:
        yield first, last + 1, rows


def _add_claims(
    connection: Connection, batch_id: UUID, account_id: UUID, ranges: Iterable[tuple[int, int, int]]
) -> None:
    found = list(ranges)
    parameters = {
        "batch_id": batch_id,
        "account_id": account_id,
        "ids": [ids.new_id() for _ in found],
        "firsts": [first for first, _, _ in found],
        "ends": [end for _, end, _ in found],
        "rows": [rows for _, _, rows in found],
    }
    connection.execute(_ADD_CLAIMS, parameters)


_NONE = {"failed": 0, "cancelled": 0, "expired": 0}

_LOCK = text("""
    SELECT account_id, plan, state, period_start, reserved_tokens, reserved_cost, cost, max_cost FROM batches
    WHERE id = :batch_id AND retrying FOR UPDATE
""")

_LET_GO = text("UPDATE batches SET reserved_tokens = 0, reserved_cost = 0 WHERE id = :batch_id")

_TO_RUN_AGAIN = text(f"""
    SELECT r.seq, r.outcome, r.status_code, r.request_id, r.body, r.error_code, r.error_message, j.custom_id
    FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.seq = r.seq
    WHERE r.batch_id = :batch_id AND {results.MAY_RUN_AGAIN} ORDER BY r.seq
""")

_TAKE_BACK = text(f"DELETE FROM results r WHERE r.batch_id = :batch_id AND {results.MAY_RUN_AGAIN}")

_ADD_CLAIMS = text("""
    INSERT INTO claims (id, batch_id, account_id, first_seq, end_seq, pending, state, worker, lease_until)
    SELECT id, :batch_id, :account_id, first_seq, end_seq, rows, 'returned', 'retry', clock_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:firsts AS int[]), CAST(:ends AS int[]), CAST(:rows AS int[]))
        AS again (id, first_seq, end_seq, rows)
""")

_MOVE_ON = text("""
    UPDATE batches SET retrying = false, returned = returned + :rows, failed = failed - :failed,
        cancelled = cancelled - :cancelled, expired = expired - :expired, error_bytes = error_bytes - :error_bytes
    WHERE id = :batch_id
""")
