"""Batches: sets of jobs submitted together."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, BinaryIO, Literal
from uuid import UUID

from sqlalchemy import Connection, text

from common import files, ids, json_text, queue, quotas, results, submission_webhooks
from common.batch_input import CsvInput
from common.database import as_account
from common.endpoints import CHAT
from common.errors import Conflict, InvalidRequest, NotFound
from common.keys import Caller
from common.reservations import exposure
from common.shared_thread import in_native_thread
from common.submission_webhooks import Webhook

DEFAULT_WINDOW = "24h"
MAX_WINDOW = timedelta(days=7)
# The time over which the rate is averaged.
RATE_SECONDS = 10.0
# Two million rows at this rate end within what a date can say.
SLOWEST_RATE = 1e-4
ROWS_DELETED = "The batch's rows have been deleted: their time to be kept is over."
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
    completion_window: str
    on_error: str
    output_file_id: UUID | None
    error_file_id: UUID | None
    output_bytes: int
    error_bytes: int
    errors: list[dict[str, Any]] | None
    error_count: int
    error_counts: dict[str, int] | None
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
    max_cost: int | None
    reserved_cost: int
    paused_reason: str | None
    pause_requested_at: datetime | None
    webhook_url: str | None
    webhook_events: list[str] | None
    rate: float
    rate_at: datetime | None
    created_at: datetime
    in_progress_at: datetime | None
    started_at: datetime | None
    cancelling_at: datetime | None
    expiring_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    results_expire_at: datetime | None
    read_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("batch_", self.id)

    @property
    def ended_rows(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def results_gone(self) -> bool:
        """Whether its jobs and results are kept no longer, so that all or some of them are deleted by now."""
        return self.results_expire_at is not None and self.results_expire_at <= self.read_at

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
        """When the last row ends if the rate holds; None where nothing goes on, or nobody knows yet how fast. While a
        batch waits for its turn, or its answers come seldom, what counts is the rate since it began."""
        if self.state != "in_progress" or self.started_at is None or self.rate_at is None or self.ended_rows == 0:
            return None
        rate = self.rows_per_second
        if (self.read_at - self.rate_at).total_seconds() > RATE_SECONDS:
            rate = self.ended_rows / max(RATE_SECONDS, (self.read_at - self.started_at).total_seconds())
        seconds = (self.total - self.ended_rows) / max(rate, SLOWEST_RATE)
        return self.read_at + timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Options:
    """What a customer says of a batch beside its input. `results_seconds` is how long after its end its results stay,
    where they may go sooner than the plan's retention has it; `model` and `input` are a CSV's."""

    kind: Literal["jsonl", "inline", "csv"]
    endpoint: str
    completion_window: str = DEFAULT_WINDOW
    on_error: Literal["fail", "skip"] = "fail"
    results_seconds: int | None = None
    metadata: dict[str, str] | None = None
    model: str | None = None
    input: dict[str, Any] | None = None
    max_cost: int | None = None
    webhook: Webhook | None = None


def window(shown: str) -> timedelta:
    """The time of a completion window such as "24h" or "7d". Raises InvalidRequest."""
    found = re.fullmatch(r"([1-9][0-9]{0,3})([hd])", shown)
    if found is not None:
        span = timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1))
        if span <= MAX_WINDOW:
            return span
    raise InvalidRequest('completion_window is from "1h" to "7d".', param="completion_window")


def create_from_csv(
    caller: Caller,
    model: str,
    csv_input: CsvInput,
    filename: str,
    content: BinaryIO,
    metadata: dict[str, str] | None,
    max_cost: int | None = None,
    webhook: Webhook | None = None,
) -> UUID:
    """Stores a CSV of prompts and its batch as `validating`; returns the batch's id. `queue.enqueue_ingest` has it
    read. Raises TooLarge, and as submission_webhooks.for_url."""
    options = Options(
        "csv", CHAT, metadata=metadata, model=model, input=csv_input.to_json(), max_cost=max_cost, webhook=webhook
    )
    return _create_with_file(caller, options, filename, content)


def create_inline(caller: Caller, options: Options, requests: Sequence[Any]) -> UUID:
    """As create, of requests that become a file of their own. A request without a method or url gets the batch's."""
    return _create_with_file(caller, options, "requests.jsonl", as_jsonl(options.endpoint, requests))


def as_jsonl(endpoint: str, requests: Sequence[Any]) -> BinaryIO:
    """Requests as a batch file."""
    # A body may be a million of them, with nothing in each.
    return in_native_thread(_as_jsonl, endpoint, requests)


def _as_jsonl(endpoint: str, requests: Sequence[Any]) -> BinaryIO:
    defaults = {"method": "POST", "url": endpoint}
    lines = (defaults | request if isinstance(request, dict) else request for request in requests)
    return io.BytesIO(b"".join(json_text.dumps(line) + b"\n" for line in lines))


def _create_with_file(caller: Caller, options: Options, filename: str, content: BinaryIO) -> UUID:
    with files.store(caller, content) as stored:
        _make_endpoint(caller, options)
        with as_account(caller.account_id) as connection:
            return _insert(connection, caller, options, files.insert(connection, caller, filename, stored))


def _make_endpoint(caller: Caller, options: Options) -> None:
    if options.webhook is not None:
        submission_webhooks.for_url(caller.account_id, options.webhook.url)


def create(caller: Caller, options: Options, input_file_id: str) -> UUID:
    """Stores a batch of an uploaded file as `validating`; returns its id. `queue.enqueue_ingest` has it read. Raises
    NotFound, InvalidRequest for a file that is no input, and as submission_webhooks.for_url."""
    file = files.get(caller.account_id, input_file_id, "input_file_id")
    if file.purpose != "batch":
        raise InvalidRequest(
            f"The file {input_file_id} has the purpose {file.purpose!r}: a batch reads one uploaded for 'batch'.",
            param="input_file_id",
        )
    _make_endpoint(caller, options)
    with as_account(caller.account_id) as connection:
        return _insert(connection, caller, options, file.id)


def _insert(connection: Connection, caller: Caller, options: Options, file_id: UUID) -> UUID:
    batch_id = ids.new_id()
    parameters = {
        "id": batch_id,
        "account_id": caller.account_id,
        "api_key_id": caller.key_id,
        "kind": options.kind,
        "endpoint": options.endpoint,
        "model": options.model,
        "metadata": json_text.dumps(options.metadata).decode() if options.metadata is not None else None,
        "input": json_text.dumps(options.input).decode() if options.input is not None else None,
        "input_file_id": file_id,
        "completion_window": options.completion_window,
        "on_error": options.on_error,
        "results_seconds": options.results_seconds,
        "seconds": window(options.completion_window).total_seconds(),
        "max_cost": options.max_cost,
        "webhook_url": options.webhook.url if options.webhook is not None else None,
        "webhook_events": options.webhook.events if options.webhook is not None else None,
    }
    connection.execute(_INSERT, parameters)
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
    parameters = {"account_id": account_id, "after": ids.parse_after("batch_", after), "limit": limit}
    with as_account(account_id) as connection:
        rows = connection.execute(_LIST, parameters)
        return [Batch(**row._mapping) for row in rows]


def cancel(account_id: UUID, batch_id: str) -> Batch:
    """Starts to cancel a batch: nothing new begins, calls in flight are stopped, finished rows stay. Asking again while
    it is being cancelled changes nothing. Raises NotFound, and Conflict when the batch has ended."""
    batch = get(account_id, batch_id)
    with as_account(account_id) as connection:
        cancelled = connection.execute(_CANCEL, {"account_id": account_id, "batch_id": batch.id}).rowcount
    queue.announce_deliveries()
    batch = get(account_id, batch_id)
    if not cancelled and batch.state in ENDED_STATES:
        raise Conflict(f"The batch has ended already: it is {batch.state}.", param="batch_id")
    return batch


def retry(caller: Caller, batch_id: str) -> Batch:
    """Has the rows of an ended batch that failed, expired or were cancelled run again; those that succeeded stay, and
    those that were never worth a call. What they may use is held anew, in the current period. `queue.enqueue_retry` has
    them made pending. Raises NotFound, QuotaExceeded, and Conflict when the batch has not ended, its rows are gone, or
    there is nothing to run again."""
    account_id = caller.account_id
    batch = get(account_id, batch_id)
    if batch.state not in ENDED_STATES:
        raise Conflict(f"The batch has not ended: it is {batch.state}.", param="batch_id")
    if batch.results_gone:
        raise Conflict(ROWS_DELETED, param="batch_id")
    parameters = {
        "account_id": account_id,
        "batch_id": batch.id,
        "seconds": window(batch.completion_window).total_seconds(),
    }
    with as_account(account_id) as connection:
        retried = connection.execute(_RETRY, parameters).one_or_none()
        if retried is None:
            raise Conflict("The batch has no row that could run again.", param="batch_id")
        held = connection.execute(_TO_HOLD, {"batch_id": batch.id}).one()
        tokens, cost = int(held.tokens), int(held.cost)
        parameters = {"batch_id": batch.id, "period_start": caller.period_start, "tokens": tokens, "cost": cost}
        connection.execute(_HOLD, parameters)
        quotas.reserve(connection, caller.allowance, tokens, exposure(cost, retried.cost, retried.max_cost))
    queue.announce_deliveries()
    return get(account_id, batch_id)


def set_max_cost(caller: Caller, batch_id: str, max_cost: int | None) -> Batch:
    """Sets a batch's cap on its cost, in nano-dollars, or removes it. A batch that it alone had paused goes on when
    there is room again: `queue.announce_work` then wakes a worker. Raises NotFound, QuotaExceeded when the account has
    no room for what the batch may then cost, InvalidRequest where the price of a row is not known, and Conflict while
    the batch's input is read, which goes by the cap that it had, and when it has ended."""
    batch = get(caller.account_id, batch_id)
    with as_account(caller.account_id) as connection:
        row = connection.execute(_LOCK, {"account_id": caller.account_id, "batch_id": batch.id}).one()
        if row.state in ENDED_STATES:
            raise Conflict(f"The batch has ended already: it is {row.state}.", param="batch_id")
        if row.state == "validating":
            raise Conflict("The batch's input is being read: set its cap once it is in progress.", param="batch_id")
        new = max_cost is not None and row.max_cost is None
        if new and connection.execute(_UNPRICED, {"batch_id": batch.id}).scalar_one():
            raise InvalidRequest(
                "The batch has rows whose cost is not known beforehand, so that no cap can hold.",
                param="max_cost",
                code="price_unknown",
            )
        connection.execute(_SET_MAX_COST, {"batch_id": batch.id, "max_cost": max_cost})
        more = exposure(row.reserved_cost, row.cost, max_cost) - exposure(row.reserved_cost, row.cost, row.max_cost)
        if more > 0:
            quotas.reserve(connection, replace(caller.allowance, period_start=row.period_start), 0, more)
        else:
            quotas.release(connection, caller.account_id, row.period_start, 0, -more)
    queue.announce_deliveries()
    return get(caller.account_id, batch_id)


_LOCK = text("""
    SELECT state, period_start, reserved_cost, cost, max_cost FROM batches
    WHERE id = :batch_id AND account_id = :account_id FOR UPDATE
""")

# Rows of a model without a known price are held at no cost.
_UNPRICED = text("SELECT EXISTS (SELECT 1 FROM jobs WHERE batch_id = :batch_id AND cost = 0)")

_SET_MAX_COST = text("""
    UPDATE batches SET max_cost = :max_cost, held_back = false,
        state = CASE WHEN paused_reason = 'max_cost' AND (CAST(:max_cost AS bigint) IS NULL OR cost < :max_cost)
            AND pause_requested_at IS NULL THEN 'in_progress' ELSE state END,
        paused_reason = CASE WHEN paused_reason = 'max_cost' AND (CAST(:max_cost AS bigint) IS NULL OR cost < :max_cost)
            THEN CASE WHEN pause_requested_at IS NOT NULL THEN 'requested' END ELSE paused_reason END
    WHERE id = :batch_id
""")

_TO_HOLD = text(f"""
    SELECT coalesce(sum(j.tokens), 0) AS tokens, coalesce(sum(j.cost), 0) AS cost
    FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.seq = r.seq
    WHERE r.batch_id = :batch_id AND {results.MAY_RUN_AGAIN}
""")

_HOLD = text("""
    UPDATE batches SET period_start = :period_start, reserved_tokens = :tokens, reserved_cost = :cost
    WHERE id = :batch_id
""")

# The plan may be another than at the beginning of the request: its upload may have taken minutes.
_INSERT = text("""
    INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, model, metadata, input, input_file_id, state,
        completion_window, on_error, results_seconds, max_cost, webhook_url, webhook_events, expires_at)
    SELECT :id, :account_id, :api_key_id, plan, :kind, :endpoint, :model, CAST(:metadata AS jsonb),
        CAST(:input AS jsonb), :input_file_id, 'validating', :completion_window, :on_error, :results_seconds, :max_cost,
        :webhook_url, CAST(:webhook_events AS text[]), now() + make_interval(secs => :seconds)
    FROM accounts WHERE id = :account_id
""")

# A file that its customer deleted is no longer named, but is still read by what began before.
_SELECT = """
    SELECT b.id, b.kind, b.endpoint, b.model, b.metadata, b.input, b.input_file_id, f.storage_key AS input_key,
        f.filename AS input_filename, b.completion_window, b.on_error, b.output_file_id, b.error_file_id,
        b.output_bytes, b.error_bytes, b.errors, b.error_count, b.error_counts, b.state, b.total, b.cursor, b.succeeded,
        b.failed, b.cancelled, b.expired, b.prompt_tokens, b.cached_tokens, b.completion_tokens, b.cost,
        b.max_cost, b.reserved_cost, b.paused_reason, b.pause_requested_at, b.webhook_url, b.webhook_events,
        b.rate, b.rate_at, b.created_at, b.in_progress_at, b.started_at, b.cancelling_at, b.expiring_at, b.ended_at,
        b.expires_at, b.results_expire_at, clock_timestamp() AS read_at
    FROM batches b LEFT JOIN files f ON f.id = b.input_file_id
    WHERE b.account_id = :account_id AND b.kind <> 'single'
"""

_GET = text(f"{_SELECT} AND b.id = :batch_id")

_LIST = text(f"""
    {_SELECT} AND (CAST(:after AS uuid) IS NULL OR b.id < CAST(:after AS uuid)) ORDER BY b.id DESC LIMIT :limit
""")

# Of a batch still validating nothing has been accepted yet, so it ends at once.
_CANCEL = text("""
    UPDATE batches SET cancelling_at = now(), paused_reason = NULL, pause_requested_at = NULL,
        state = CASE state WHEN 'validating' THEN 'cancelled' ELSE 'cancelling' END,
        ended_at = CASE state WHEN 'validating' THEN now() END
    WHERE id = :batch_id AND account_id = :account_id AND kind <> 'single'
        AND state IN ('validating', 'in_progress', 'paused')
""")

# The rows are made pending by a worker: until then the batch stands as it was, but for its state. It goes on with the
# plan that its account has now: what had ended did not go along when that was changed.
_RETRY = text(f"""
    UPDATE batches SET state = 'in_progress', retrying = true, ended_at = NULL, cancelling_at = NULL,
        expires_at = now() + make_interval(secs => :seconds), expiring_at = NULL, results_expire_at = NULL,
        plan = (SELECT plan FROM accounts WHERE id = :account_id)
    WHERE id = :batch_id AND account_id = :account_id AND state IN ('completed', 'cancelled', 'expired')
        AND results_expire_at > clock_timestamp()
        AND (cancelled > 0 OR expired > 0 OR failed > 0 AND EXISTS (
            SELECT 1 FROM results r WHERE r.batch_id = :batch_id AND {results.MAY_RUN_AGAIN}))
    RETURNING cost, max_cost
""")
