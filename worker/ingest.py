"""Ingest: a batch's input becomes its jobs, in one transaction.

Either every row is in PostgreSQL and the batch is `in_progress`, or none is and the batch is `failed` with its errors,
or the process died and the batch is `validating` as before, to be read again from the start. It runs in a process of
its own, because reading a million rows would hold up the calls in flight.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, BinaryIO
from uuid import UUID

from sqlalchemy import Connection, text

from common import csv_rows, ids, json_text, logs, queue, storage
from common.batch_input import CUSTOM_ID_COLUMN, INGEST_LOCK, CsvInput
from common.batch_states import finish
from common.database import owner_engine
from common.errors import LineError
from common.plans import PLANS
from worker.job_copy import JobCopy

log = logging.getLogger(__name__)

MAX_ERRORS_SHOWN = 1_000
MAX_CUSTOM_ID_CHARACTERS = 512
MAX_BODY_CHARACTERS = 4 * 2**20


class _Rejected(Exception):
    """The input has errors: roll back, and fail the batch with them."""

    def __init__(self, errors: list[LineError], count: int) -> None:
        super().__init__(f"{count} errors")
        self.errors = errors
        self.count = count


class _Cancelled(Exception):
    """The batch was cancelled while its input was read: roll back, nothing of it may stay."""


def run(batch_id: UUID) -> None:
    """What the child process does."""
    logs.configure()
    logs.batch_id.set(ids.show("batch_", batch_id))
    try:
        plan = ingest(batch_id)
    except _Rejected as rejected:
        _fail(batch_id, rejected)
        return
    except _Cancelled:
        return
    if plan is not None:
        queue.announce_work(plan)


def ingest(batch_id: UUID) -> str | None:
    """Writes the jobs of a `validating` batch. Returns its plan, or None when it is not validating (any more)."""
    with owner_engine().begin() as connection:
        # Whoever comes second waits here, and then finds nothing to do.
        connection.execute(_LOCK, {"lock": INGEST_LOCK, "batch_id": str(batch_id)})
        batch = connection.execute(_GET, {"batch_id": batch_id}).one_or_none()
        if batch is None:
            return None
        total, blank = _write_jobs(connection, batch)
        _fail_blank_rows(connection, batch_id, blank)
        moved = connection.execute(_MOVE_ON, {"batch_id": batch_id, "total": total, "failed": len(blank)})
        if moved.rowcount == 0:
            raise _Cancelled
        finish(connection, [batch_id])
    log.info("batch ingested", extra={"rows": total, "blank": len(blank)})
    return str(batch.plan)


def _write_jobs(connection: Connection, batch: Any) -> tuple[int, list[int]]:
    """Copies every row in. Returns how many there are, and which have no prompt. Raises _Rejected."""
    csv_input = CsvInput.from_json(batch.input)
    columns = csv_input.dialect.columns
    template = csv_input.body_template(batch.model)
    id_column = columns.index(CUSTOM_ID_COLUMN) if CUSTOM_ID_COLUMN in columns else None
    errors = _Errors()
    blank: list[int] = []
    seq = 0
    with _open_input(batch.storage_key) as file, JobCopy(connection, batch.id, batch.account_id) as copy:
        for found in csv_rows.read(file, csv_input.dialect):
            if isinstance(found, LineError):
                errors.add(found)
                continue
            line, row = found
            custom_id = str(seq + 1) if id_column is None else row[id_column]
            if id_column is not None and (problem := _custom_id_problem(line, custom_id)) is not None:
                errors.add(problem)
            if template.least_characters(row) > MAX_BODY_CHARACTERS:
                message = f"line {line} makes a body of over {MAX_BODY_CHARACTERS:,} characters: shorten its cells"
                errors.add(LineError("row_too_long", line, message, "prompt"))
                seq += 1
                continue
            body, is_blank = template.render(row)
            if is_blank:
                blank.append(seq)
            if not errors.count:
                copy.add(seq, custom_id, body.encode())
            seq += 1
    max_rows = PLANS[batch.plan].max_rows
    if seq > max_rows:
        message = f"the file has {seq:,} rows; the plan {batch.plan} allows {max_rows:,} in a batch: split it"
        errors.add(LineError("too_many_tasks", csv_input.dialect.header_lines + 1, message, "file"))
    if id_column is not None and not errors.count:
        _find_repeated_ids(connection, batch, csv_input, errors)
    errors.check()
    return seq, blank


class _Errors:
    """The line errors of an input: all are counted, the first thousand kept."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[LineError] = []

    def add(self, error: LineError) -> None:
        self.count += 1
        if len(self._shown) < MAX_ERRORS_SHOWN:
            self._shown.append(error)

    def check(self) -> None:
        if self.count:
            raise _Rejected(self._shown, self.count)


def _open_input(key: str | None) -> BinaryIO:
    try:
        if key is not None:
            return storage.open_content(key)
    except FileNotFoundError:
        pass
    raise _Rejected([LineError("input_missing", 1, "the input file is no longer stored: upload it again", "file")], 1)


def _custom_id_problem(line: int, custom_id: str) -> LineError | None:
    if not custom_id.strip():
        return LineError("missing_custom_id", line, f"line {line} has no custom_id: give the row one", CUSTOM_ID_COLUMN)
    if len(custom_id) > MAX_CUSTOM_ID_CHARACTERS:
        message = f"line {line} has a custom_id over {MAX_CUSTOM_ID_CHARACTERS} characters: shorten it"
        return LineError("invalid_custom_id", line, message, CUSTOM_ID_COLUMN)
    return None


def _find_repeated_ids(connection: Connection, batch: Any, csv_input: CsvInput, errors: _Errors) -> None:
    """PostgreSQL sorts the ids on disk where it must, so that they need not fit in this process's memory."""
    repeated = connection.execute(_REPEATED_IDS, {"batch_id": batch.id}).all()
    if not repeated:
        return
    lines = _lines_of(batch.storage_key, csv_input, {row.seq for row in repeated})
    for row in repeated:
        line = lines[row.seq]
        message = f"line {line} has the custom_id {row.custom_id!r}, which a line above it has: make it different"
        errors.add(LineError("duplicate_custom_id", line, message, CUSTOM_ID_COLUMN))
    errors.count = repeated[0].repeats


def _lines_of(key: str, csv_input: CsvInput, seqs: set[int]) -> dict[int, int]:
    """The lines at which these rows start: found by reading the input once more, which only a bad input costs."""
    with storage.open_content(key) as file:
        rows = csv_rows.read(file, csv_input.dialect)
        return {seq: found[0] for seq, found in enumerate(rows) if seq in seqs and not isinstance(found, LineError)}


def _fail_blank_rows(connection: Connection, batch_id: UUID, blank: Sequence[int]) -> None:
    """A row without a prompt is not worth a call: it fails, and only it."""
    if blank:
        connection.execute(_FAIL_BLANK, {"batch_id": batch_id, "seqs": list(blank)})


def _fail(batch_id: UUID, rejected: _Rejected) -> None:
    errors = json_text.dumps([asdict(error) for error in rejected.errors]).decode()
    with owner_engine().begin() as connection:
        connection.execute(_FAIL, {"batch_id": batch_id, "errors": errors, "count": rejected.count})
    log.info("batch failed validation", extra={"errors": rejected.count})


_LOCK = text("SELECT pg_advisory_xact_lock(:lock, hashtext(:batch_id))")

_GET = text("""
    SELECT b.id, b.account_id, b.plan, b.model, b.input, f.storage_key
    FROM batches b LEFT JOIN files f ON f.id = b.input_file_id
    WHERE b.id = :batch_id AND b.state = 'validating'
""")

_REPEATED_IDS = text(f"""
    SELECT seq, custom_id, count(*) OVER () AS repeats FROM (
        SELECT seq, custom_id, row_number() OVER (PARTITION BY custom_id ORDER BY seq) AS occurrence
        FROM jobs WHERE batch_id = :batch_id
    ) AS numbered WHERE occurrence > 1 ORDER BY seq LIMIT {MAX_ERRORS_SHOWN}
""")

_FAIL_BLANK = text("""
    INSERT INTO results (batch_id, seq, account_id, outcome, error_code, error_message, attempts, finished_at)
    SELECT batch_id, seq, account_id, 'failed', 'empty_prompt', 'The prompt of this row is empty.', 0, clock_timestamp()
    FROM jobs WHERE batch_id = :batch_id AND seq = ANY(:seqs)
""")

_MOVE_ON = text("""
    UPDATE batches SET state = 'in_progress', total = :total, failed = :failed, in_progress_at = clock_timestamp()
    WHERE id = :batch_id AND state = 'validating'
""")

_FAIL = text("""
    UPDATE batches SET state = 'failed', errors = CAST(:errors AS jsonb), error_count = :count,
        ended_at = clock_timestamp()
    WHERE id = :batch_id AND state = 'validating'
""")
