"""Ingest: a batch's input becomes its jobs, in one transaction.

Either every row is in PostgreSQL, with what it may use held, and the batch is `in_progress`; or none is and the batch
is `failed` with its errors; or the process died and the batch is `validating` as before, to be read again from the
start. A large input is read in a process of its own, because that would hold up the calls in flight.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import batch_source, files, ids, interpreter, json_text, logs, plans, queue, quotas
from common.batch_input import INGEST_LOCK
from common.batch_states import finish
from common.database import owner_engine
from common.errors import InvalidRequest, QuotaExceeded
from common.input_rows import BadRow
from common.intake import Intake, Rejected
from common.output_lines import line
from common.quotas import Allowance
from common.reservations import exposure
from worker.job_copy import JobCopy

log = logging.getLogger(__name__)

FAILED_AT_ONCE = 5_000


class _Cancelled(Exception):
    """The batch was cancelled while its input was read: roll back, nothing of it may stay."""


def run(batch_id: UUID) -> None:
    """What the child process does."""
    logs.configure()
    interpreter.tune()
    read(batch_id)


def input_bytes(batch_id: UUID) -> int:
    """The size of the batch's stored input; 0 when there is none."""
    with owner_engine().begin() as connection:
        return connection.execute(_INPUT_BYTES, {"batch_id": batch_id}).scalar_one_or_none() or 0


def read(batch_id: UUID) -> None:
    """Reads the input of a `validating` batch and moves the batch on, to `in_progress` or to `failed`."""
    logs.batch_id.set(ids.show("batch_", batch_id))
    try:
        plan = ingest(batch_id)
    except Rejected as rejected:
        _fail(batch_id, [asdict(error) for error in rejected.errors], rejected.counts)
        return
    except (QuotaExceeded, InvalidRequest) as refused:
        # Of no line: it is the batch that there is no room for, or whose options its plan no longer allows.
        error = {"code": refused.code, "line": None, "message": refused.message, "param": refused.param}
        _fail(batch_id, [error], Counter([refused.code or ""]))
        return
    except _Cancelled:
        return
    if plan is not None:
        queue.announce_work(plan)
        queue.announce_deliveries()


def ingest(batch_id: UUID) -> str | None:
    """Writes the jobs of a `validating` batch. Returns its plan, or None when it is not validating (any more)."""
    with owner_engine().begin() as connection:
        # Whoever comes second waits here, and then finds nothing to do.
        connection.execute(_LOCK, {"lock": INGEST_LOCK, "batch_id": str(batch_id)})
        batch = connection.execute(_GET, {"batch_id": batch_id}).one_or_none()
        if batch is None:
            return None
        intake = batch_source.intake(
            batch_source.stored(batch.storage_key),
            limits=plans.with_overrides(batch.plan, batch.overrides),
            endpoint=batch.endpoint,
            model=batch.model,
            csv_input=batch.input,
            skip=batch.on_error == "skip",
            priced=batch.max_cost is not None or batch.hard_cap is not None,
        )
        tokens, cost = _write_jobs(connection, batch, intake)
        failing = _fail_rows(connection, batch, intake.failing_rows())
        tokens -= failing.tokens
        cost -= failing.cost
        _move_on(connection, batch, intake.total, failing, tokens, cost)
        finish(connection.exec_driver_sql, [batch_id])
        # The row of the account's quota is the hottest, so it is locked last.
        limits = plans.with_overrides(batch.plan, batch.overrides)
        allowance = Allowance(batch.account_id, batch.period_start, batch.period_end, limits, batch.hard_cap)
        quotas.reserve(connection, allowance, tokens, exposure(cost, 0, batch.max_cost))
    log.info("batch ingested", extra={"rows": intake.total, "failed": failing.rows})
    return str(batch.plan)


def _write_jobs(connection: Connection, batch: Any, intake: Intake) -> tuple[int, int]:
    """Copies every row in, until it is known that the input is refused. Returns the tokens and the cost to hold."""
    tokens = cost = 0
    with JobCopy(connection, batch.id, batch.account_id) as copy:
        add = copy.add
        for seq, row in intake.rows():
            if not intake.refused:
                add(seq, row.custom_id, row.body, row.tokens, row.cost)
                tokens += row.tokens
                cost += row.cost
    return tokens, cost


@dataclass(slots=True)
class _Failing:
    """Rows that fail without a call: how many, the bytes of their lines, and what was going to be held for them."""

    rows: int = 0
    error_bytes: int = 0
    tokens: int = 0
    cost: int = 0


def _fail_rows(connection: Connection, batch: Any, failing: Iterator[tuple[int, BadRow]]) -> _Failing:
    """Writes the results of rows that fail without a call. Raises Rejected."""
    found = _Failing()
    while rows := list(islice(failing, FAILED_AT_ONCE)):
        parameters = {
            "batch_id": batch.id,
            "account_id": batch.account_id,
            "seqs": [seq for seq, _ in rows],
            "codes": [row.error.code for _, row in rows],
            "messages": [row.error.message for _, row in rows],
        }
        connection.execute(_FAIL_ROWS, parameters)
        found.rows += len(rows)
        for seq, row in rows:
            found.error_bytes += _line_bytes(batch.id, seq, row)
            found.tokens += row.tokens
            found.cost += row.cost
    return found


def _line_bytes(batch_id: UUID, seq: int, row: BadRow) -> int:
    return len(line(batch_id, seq, row.custom_id, None, None, None, row.error.code, row.error.message))


def _move_on(connection: Connection, batch: Any, total: int, failing: _Failing, tokens: int, cost: int) -> None:
    """The batch begins, or waits for its customer, who paused it meanwhile. Raises _Cancelled."""
    output_file_id, error_file_id = files.add_results(connection, batch.account_id, batch.id)
    parameters = {
        "batch_id": batch.id,
        "total": total,
        "failed": failing.rows,
        "error_bytes": failing.error_bytes,
        "period_start": batch.period_start,
        "tokens": tokens,
        "cost": cost,
        "output_file_id": output_file_id,
        "error_file_id": error_file_id,
    }
    if connection.execute(_MOVE_ON, parameters).rowcount == 0:
        raise _Cancelled


def _fail(batch_id: UUID, errors: list[dict[str, Any]], counts: Counter[str]) -> None:
    parameters = {
        "batch_id": batch_id,
        "errors": json_text.dumps(errors).decode(),
        "count": counts.total(),
        "counts": json_text.dumps(counts).decode(),
    }
    with owner_engine().begin() as connection:
        connection.execute(_FAIL, parameters)
    queue.announce_deliveries()
    log.info("batch failed validation", extra={"errors": counts.total()})


_LOCK = text("SELECT pg_advisory_xact_lock(:lock, hashtext(:batch_id))")

_INPUT_BYTES = text("SELECT f.bytes FROM batches b JOIN files f ON f.id = b.input_file_id WHERE b.id = :batch_id")

_GET = text("""
    SELECT b.id, b.account_id, b.plan, b.endpoint, b.model, b.input, b.on_error, b.max_cost, f.storage_key,
        CAST(a.overrides AS text) AS overrides,
        a.hard_cap, p.period_start, p.period_end
    FROM batches b JOIN accounts a ON a.id = b.account_id LEFT JOIN files f ON f.id = b.input_file_id
        CROSS JOIN LATERAL billing_period(a.billing_anchor, now()) AS p
    WHERE b.id = :batch_id AND b.state = 'validating'
""")

_FAIL_ROWS = text("""
    INSERT INTO results (batch_id, seq, account_id, outcome, error_code, error_message, attempts, finished_at)
    SELECT :batch_id, seq, :account_id, 'failed', code, message, 0, clock_timestamp()
    FROM unnest(CAST(:seqs AS int[]), CAST(:codes AS text[]), CAST(:messages AS text[])) AS bad (seq, code, message)
""")

_MOVE_ON = text("""
    UPDATE batches SET state = CASE WHEN pause_requested_at IS NULL THEN 'in_progress' ELSE 'paused' END,
        paused_reason = CASE WHEN pause_requested_at IS NOT NULL THEN 'requested' END,
        paused_at = CASE WHEN pause_requested_at IS NOT NULL THEN clock_timestamp() END,
        total = :total, failed = :failed, error_bytes = :error_bytes,
        period_start = :period_start, reserved_tokens = :tokens, reserved_cost = :cost,
        output_file_id = :output_file_id, error_file_id = :error_file_id, in_progress_at = clock_timestamp()
    WHERE id = :batch_id AND state = 'validating'
""")

_FAIL = text("""
    UPDATE batches SET state = 'failed', errors = CAST(:errors AS jsonb), error_count = :count,
        error_counts = CAST(:counts AS jsonb), ended_at = clock_timestamp(), pause_requested_at = NULL
    WHERE id = :batch_id AND state = 'validating'
""")
