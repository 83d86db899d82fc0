"""Single jobs: a batch of one, written by the request itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import text

from common import ids, json_text, queue, quotas, submission_webhooks, submissions
from common.batch_states import finish
from common.batches import MAX_WINDOW
from common.database import as_account, read_account
from common.errors import Conflict, InvalidRequest, NotFound
from common.keys import Caller
from common.remembered_keys import NotConfirmed
from common.reservations import Reserver
from common.submission_webhooks import Webhook
from common.submissions import Submission

STATUSES = ("queued", "in_progress", "completed", "failed", "cancelled", "expired")
# As long as a batch's window may be.
MAX_EXPIRES_IN_SECONDS = int(MAX_WINDOW.total_seconds())
_STATUS_OF_OUTCOME = {"succeeded": "completed", "failed": "failed", "cancelled": "cancelled", "expired": "expired"}
ENDED = frozenset(_STATUS_OF_OUTCOME.values())


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its customer sees it. `response_body` is what the provider sent; the tokens and what
    follows are its receipt, None where nothing was used or the model has no known price: prices are nano-dollars for a
    million tokens, `cost` nano-dollars."""

    batch_id: UUID
    seq: int
    single: bool
    endpoint: str
    custom_id: str
    metadata: dict[str, str] | None
    batch_state: str
    claimed: bool
    created_at: datetime
    expires_at: datetime | None = None
    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    batch_started_at: datetime | None = None
    outcome: str | None = None
    status_code: int | None = None
    response_body: bytes | None = None
    error_code: str | None = None
    error_message: str | None = None
    attempts: int | None = None
    provider: str | None = None
    request_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_price: int | None = None
    cached_price: int | None = None
    completion_price: int | None = None
    cost: int | None = None
    recorded_at: datetime | None = None

    @property
    def shown_id(self) -> str:
        job_id = ids.show("job_", self.batch_id)
        return job_id if self.single else f"{job_id}_{self.seq}"

    @property
    def status(self) -> str:
        if self.outcome is not None:
            return _STATUS_OF_OUTCOME[self.outcome]
        return "in_progress" if self.claimed else "queued"


def submit(
    caller: Caller,
    endpoint: str,
    body: dict[str, Any],
    metadata: dict[str, str] | None,
    prefix: str = "body.",
    expires_in: int | None = None,
    webhook: Webhook | None = None,
) -> Job:
    """Stores a job for the caller's account, with what it may use held. The body must have been checked. The job is
    accepted once this returns, and a worker is woken; where it has not ended `expires_in` seconds later, it expires.
    Raises InvalidRequest for bounds that cannot be, named behind `prefix`, and for a URL that no webhook may go to,
    Conflict for one that is disabled, QuotaExceeded, and NotConfirmed for a caller whose key is not as remembered."""
    reserver = Reserver(endpoint, caller.limits, priced=caller.hard_cap is not None)
    sent, tokens, cost = reserver.hold(body, json_text.dumps(body), prefix)
    batch_id = ids.new_id()
    custom_id = ids.show("job_", batch_id)
    model = body["model"]
    if webhook is not None:
        if caller.remembered is not None:
            raise NotConfirmed
        submission_webhooks.for_url(caller.account_id, webhook.url)
    submission = Submission(
        batch_id, caller.key_id, endpoint, model, metadata, custom_id, sent, tokens, cost, expires_in, webhook,
        caller.remembered,
    )  # fmt: skip
    created_at = submissions.store(submission, caller.allowance)
    expires_at = created_at + timedelta(seconds=expires_in) if expires_in is not None else None
    url, events = (webhook.url, webhook.events) if webhook is not None else (None, None)
    return Job(
        batch_id, 0, True, endpoint, custom_id, metadata, "in_progress", False, created_at, expires_at, url, events,
        model=model,
    )  # fmt: skip


def get(account_id: UUID, job_id: str) -> Job:
    """The job of this account. Raises NotFound, for another account's job too."""
    batch_id, seq = _parse(job_id)
    rows = read_account(account_id, _GET, {"account_id": account_id, "batch_id": batch_id, "seq": seq})
    if not rows:
        raise NotFound(f"There is no job {job_id!r}.", param="job_id")
    return Job(**rows[0])


def list_single(account_id: UUID, status: str | None, after: str | None, limit: int) -> Sequence[Job]:
    """Up to `limit` single jobs, newest first, those submitted before the job `after`."""
    if status is not None and status not in STATUSES:
        raise InvalidRequest(f"status is one of {', '.join(STATUSES)}.", param="status")
    parameters = {"account_id": account_id, "after": ids.parse_after("job_", after), "limit": limit}
    with as_account(account_id) as connection:
        rows = connection.execute(_LIST[status], parameters)
        return [Job(**row._mapping) for row in rows]


def cancel(account_id: UUID, job_id: str) -> Job:
    """Cancels a job: at once when no worker has it, else as soon as its worker hears. Raises NotFound, and Conflict
    when it has ended or belongs to a larger batch."""
    job = get(account_id, job_id)
    if not job.single:
        raise Conflict("This job is a row of a batch: cancel the batch.", param="job_id")
    with as_account(account_id) as connection:
        batch = connection.execute(_START_CANCEL, {"account_id": account_id, "batch_id": job.batch_id}).one_or_none()
        if batch is None and job.status in ENDED:
            raise Conflict(f"The job has ended already: it is {job.status}.", param="job_id")
        if batch is not None and batch.cursor == 0:
            connection.execute(_CANCEL_UNCLAIMED, {"account_id": account_id, "batch_id": job.batch_id})
            finish(connection.exec_driver_sql, [job.batch_id])
            if batch.period_start is not None:
                quotas.release(connection, account_id, batch.period_start, batch.reserved_tokens, batch.reserved_cost)
    queue.announce_deliveries()
    return get(account_id, job_id)


def _parse(job_id: str) -> tuple[UUID | None, int]:
    """A single job's id names its batch of one; a row's id adds its number."""
    batch_part, separator, seq_part = job_id.removeprefix("job_").partition("_")
    if separator and not (seq_part.isascii() and seq_part.isdigit() and len(seq_part) <= 9):
        return None, 0
    return ids.parse("job_", f"job_{batch_part}" if job_id.startswith("job_") else job_id), int(seq_part or 0)


_SELECT: LiteralString = """
    SELECT b.id AS batch_id, j.seq, b.kind = 'single' AS single, b.endpoint, j.custom_id, b.metadata,
        b.state AS batch_state, j.seq < b.cursor AND b.returned = 0 AS claimed, b.created_at,
        b.expires_at, CASE b.kind WHEN 'single' THEN b.webhook_url END AS webhook_url,
        CASE b.kind WHEN 'single' THEN b.webhook_events END AS webhook_events,
        b.started_at AS batch_started_at, r.outcome, r.status_code, r.body AS response_body, r.error_code,
        r.error_message, r.attempts, r.provider, r.request_id, r.started_at, r.finished_at,
        coalesce(u.model, b.model) AS model, u.prompt_tokens, u.cached_tokens, u.completion_tokens,
        u.prompt_price, u.cached_price, u.completion_price, u.cost, u.created_at AS recorded_at
    FROM batches b JOIN jobs j ON j.batch_id = b.id
    LEFT JOIN results r ON r.batch_id = j.batch_id AND r.seq = j.seq
    LEFT JOIN usage_records u ON u.batch_id = j.batch_id AND u.seq = j.seq
"""

_GET: LiteralString = f"{_SELECT} WHERE b.account_id = %(account_id)s AND b.id = %(batch_id)s AND j.seq = %(seq)s"

# As Job.status has it, in words that the index of what is open serves.
_OPEN = "b.state IN ('in_progress', 'paused', 'cancelling', 'expiring')"
_STATUS_CONDITIONS = {
    None: "true",
    "queued": f"{_OPEN} AND (b.cursor = 0 OR b.returned > 0)",
    "in_progress": f"{_OPEN} AND b.cursor = 1 AND b.returned = 0",
    "completed": "b.succeeded = 1",
    "failed": "b.failed = 1",
    "cancelled": "b.cancelled = 1",
    "expired": "b.expired = 1",
}

_LIST = {
    status: text(f"""
        {_SELECT} WHERE b.account_id = :account_id AND b.kind = 'single' AND j.seq = 0 AND {condition}
        AND (CAST(:after AS uuid) IS NULL OR b.id < CAST(:after AS uuid))
        ORDER BY b.id DESC LIMIT :limit
    """)
    for status, condition in _STATUS_CONDITIONS.items()
}

_START_CANCEL = text("""
    UPDATE batches SET state = 'cancelling', cancelling_at = now(), paused_reason = NULL
    WHERE id = :batch_id AND account_id = :account_id AND state IN ('in_progress', 'paused')
    RETURNING cursor, period_start, reserved_tokens, reserved_cost
""")

_CANCEL_UNCLAIMED = text("""
    WITH result AS (
        INSERT INTO results (batch_id, seq, account_id, outcome, error_code, error_message, attempts, finished_at)
        VALUES (:batch_id, 0, :account_id, 'cancelled', 'cancelled', 'The job was cancelled.', 0, now())
    )
    UPDATE batches SET cursor = 1, cancelled = 1, reserved_tokens = 0, reserved_cost = 0 WHERE id = :batch_id
""")
