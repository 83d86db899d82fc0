"""Batches: sets of jobs submitted together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO
from uuid import UUID

from sqlalchemy import text

from common import ids, json_text, storage
from common.batch_input import CsvInput
from common.database import as_account
from common.errors import Conflict, InvalidRequest, NotFound
from common.keys import Caller

COMPLETION_WINDOW = timedelta(hours=24)
# The time over which the rate is averaged.
RATE_SECONDS = 10.0
ENDED_STATES = frozenset({"completed", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch and its counters, as of one moment. Costs are nano-dollars."""

    id: UUID
    kind: str
    endpoint: str
    model: str | None
    metadata: dict[str, str] | None
    input: dict[str, Any] | None
    input_file_id: UUID | None
    input_key: str | None
    input_filename: str | None
    errors: list[dict[str, Any]] | None
    error_count: int
    state: str
    total: int
    cursor: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: int
    rate: float
    rate_at: datetime | None
    created_at: datetime
    in_progress_at: datetime | None
    started_at: datetime | None
    cancelling_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    read_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("batch_", self.id)

    @property
    def ended_rows(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def rows_per_second(self) -> float:
        """Outcomes a second over the last ten seconds; since the start, when that is less; 0 once it has ended."""
        if self.started_at is None or self.rate_at is None or self.state in ENDED_STATES:
            return 0.0
        age = max(0.0, (self.read_at - self.rate_at).total_seconds())
        running = max(0.1, (self.read_at - self.started_at).total_seconds())
        # The average has forgotten nothing of a batch younger than its window: scale by what it could have seen.
        return self.rate * math.exp(-age / RATE_SECONDS) / -math.expm1(-running / RATE_SECONDS)

    @property
    def estimated_completion_at(self) -> datetime | None:
        """When the last row ends if the rate holds; None where there is no rate to go by."""
        rate = self.rows_per_second
        if rate < 1e-6 or self.state != "in_progress":
            return None
        seconds = (self.total - self.ended_rows) / rate
        return self.read_at + timedelta(seconds=min(seconds, 10 * 365 * 86400))


def create_from_csv(
    caller: Caller, model: str, csv_input: CsvInput, filename: str, content: BinaryIO, metadata: dict[str, str] | None
) -> UUID:
    """Stores an upload and its batch as `validating`; returns the batch's id. `queue.enqueue_ingest` has it read."""
    batch_id, file_id = ids.new_id(), ids.new_id()
    key = f"inputs/{file_id.hex}"
    content.seek(0, 2)
    size = content.tell()
    content.seek(0)
    storage.put(key, content)
    parameters = {
        "id": batch_id,
        "file_id": file_id,
        "account_id": caller.account_id,
        "api_key_id": caller.key_id,
        "plan": caller.plan,
        "model": model,
        "metadata": json_text.dumps(metadata).decode() if metadata is not None else None,
        "input": json_text.dumps(csv_input.to_json()).decode(),
        "filename": filename,
        "bytes": size,
        "storage_key": key,
        "expires_at": datetime.now(UTC) + COMPLETION_WINDOW,
    }
    try:
        with as_account(caller.account_id) as connection:
            connection.execute(_INSERT_FILE, parameters)
            connection.execute(_INSERT, parameters)
    except BaseException:
        storage.delete(key)
        raise
    return batch_id


def get(account_id: UUID, batch_id: str) -> Batch:
    """The batch of this account. Raises NotFound, for another account's batch too."""
    parameters = {"account_id": account_id, "batch_id": ids.parse("batch_", batch_id)}
    with as_account(account_id) as connection:
        row = connection.execute(_GET, parameters).one_or_none()
    if row is None:
        raise NotFound(f"There is no batch {batch_id!r}.", param="batch_id")
    return Batch(**row._mapping)


def list_bulk(account_id: UUID, after: str | None, limit: int) -> Sequence[Batch]:
    """Up to `limit` batches, newest first, those created before the batch `after`. Single jobs are not among them."""
    cursor = None
    if after is not None:
        cursor = ids.parse("batch_", after)
        if cursor is None:
            raise InvalidRequest("after is the id of the last batch of the page before.", param="after")
    with as_account(account_id) as connection:
        rows = connection.execute(_LIST, {"account_id": account_id, "after": cursor, "limit": limit})
        return [Batch(**row._mapping) for row in rows]


def cancel(account_id: UUID, batch_id: str) -> Batch:
    """Starts to cancel a batch: nothing new begins, calls in flight are stopped, finished rows stay. Asking again while
    it is being cancelled changes nothing. Raises NotFound, and Conflict when the batch has ended."""
    batch = get(account_id, batch_id)
    with as_account(account_id) as connection:
        cancelled = connection.execute(_CANCEL, {"account_id": account_id, "batch_id": batch.id}).rowcount
    batch = get(account_id, batch_id)
    if not cancelled and batch.state in ENDED_STATES:
        raise Conflict(f"The batch has ended already: it is {batch.state}.", param="batch_id")
    return batch


_INSERT_FILE = text("""
    INSERT INTO files (id, account_id, purpose, filename, bytes, storage_key)
    VALUES (:file_id, :account_id, 'batch', :filename, :bytes, :storage_key)
""")

_INSERT = text("""
    INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, model, metadata, input, input_file_id, state,
        expires_at)
    VALUES (:id, :account_id, :api_key_id, :plan, 'csv', '/v1/chat/completions', :model, CAST(:metadata AS jsonb),
        CAST(:input AS jsonb), :file_id, 'validating', :expires_at)
""")

_SELECT = """
    SELECT b.id, b.kind, b.endpoint, b.model, b.metadata, b.input, b.input_file_id, f.storage_key AS input_key,
        f.filename AS input_filename, b.errors, b.error_count, b.state, b.total, b.cursor, b.succeeded, b.failed,
        b.cancelled, b.expired, b.prompt_tokens, b.cached_tokens, b.completion_tokens, b.cost, b.rate, b.rate_at,
        b.created_at, b.in_progress_at, b.started_at, b.cancelling_at, b.ended_at, b.expires_at,
        clock_timestamp() AS read_at
    FROM batches b LEFT JOIN files f ON f.id = b.input_file_id
    WHERE b.account_id = :account_id AND b.kind <> 'single'
"""

_GET = text(f"{_SELECT} AND b.id = :batch_id")

_LIST = text(f"""
    {_SELECT} AND (CAST(:after AS uuid) IS NULL OR b.id < CAST(:after AS uuid)) ORDER BY b.id DESC LIMIT :limit
""")

# Of a batch still validating nothing has been accepted yet, so it ends at once.
_CANCEL = text("""
    UPDATE batches SET cancelling_at = now(),
        state = CASE state WHEN 'validating' THEN 'cancelled' ELSE 'cancelling' END,
        ended_at = CASE state WHEN 'validating' THEN now() END
    WHERE id = :batch_id AND account_id = :account_id AND kind <> 'single' AND state IN ('validating', 'in_progress')
""")
