"""The JSON that answers are made of. mypy holds web/render.py to it, and web/openapi.py documents it."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

# pydantic reads TypedDicts of Python's own from 3.12 on.
from typing_extensions import TypedDict

from common.batches import ENDED_STATES
from common.jobs import STATUSES
from common.webhook_events import BATCH_TYPES, JOB_TYPES

ItemT = TypeVar("ItemT")
BATCH_STATUSES = ("validating", "in_progress", "paused", "finalizing", "cancelling", *sorted(ENDED_STATES))

UnixSeconds = Annotated[int, Field(description="Whole seconds since 1970.")]
PreciseSeconds = Annotated[float, Field(description="Seconds since 1970, to the millisecond.")]
Tokens = Annotated[int, Field(ge=0)]
Rows = Annotated[int, Field(ge=0)]
Dollars = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", description="An exact decimal number of dollars.")]


def id_like(prefix: str) -> Any:
    return Field(pattern=f"^{prefix}[0-9a-f]{{32}}$")


def one_of(*values: str) -> Any:
    return Field(json_schema_extra={"enum": list(values)})


BatchId = Annotated[str, id_like("batch_")]
FileId = Annotated[str, id_like("file-")]
# Of a row of a batch: the batch's digits, then the row's number.
JobId = Annotated[str, Field(pattern=r"^job_[0-9a-f]{32}(_[0-9]{1,9})?$")]


# Null where those that end it are told.
BatchEvent = Annotated[str, one_of(*BATCH_TYPES)]
JobEvent = Annotated[str, one_of(*JOB_TYPES)]


class ErrorDetail(TypedDict):
    """What happened and what to do. `param` names the field that it is about, `code` is for programs."""

    message: str
    type: Annotated[
        str,
        one_of(
            "invalid_request_error",
            "authentication_error",
            "permission_error",
            "not_found_error",
            "conflict_error",
            "quota_error",
            "rate_limit_error",
            "unavailable_error",
        ),
    ]
    param: str | None
    code: str | None


class Error(TypedDict):
    """Every error has this shape."""

    error: ErrorDetail


class Money(TypedDict):
    """An amount as an exact decimal string of dollars, and in nano-dollars."""

    usd: Dollars
    nano_usd: Annotated[int, Field(ge=0)]


class Page(TypedDict, Generic[ItemT]):
    """A page of a list; `last_id` as `after` asks for the next one."""

    object: Annotated[str, one_of("list")]
    data: list[ItemT]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ProviderAnswer(TypedDict):
    """What the provider sent: JSON where it was JSON, else text."""

    status_code: int
    request_id: str | None
    body: Any


class JobError(TypedDict):
    """Why a job did not succeed."""

    code: str
    message: str | None


class RowUsage(TypedDict):
    """The tokens of a row's receipt."""

    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens


class JobUsage(RowUsage):
    """The tokens of a job's receipt."""

    total_tokens: Tokens


class UnitPrices(TypedDict):
    """Dollars for a million tokens of each kind."""

    prompt: Dollars
    cached: Dollars
    completion: Dollars


class Receipt(TypedDict):
    """What was counted and charged. Without a known price there are neither prices nor a cost."""

    model: str | None
    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    unit_prices: UnitPrices | None
    cost: Money | None
    recorded_at: PreciseSeconds | None


class Job(TypedDict):
    """One generation request, with its outcome once it has ended."""

    id: JobId
    object: Annotated[str, one_of("job")]
    status: Annotated[str, one_of(*STATUSES)]
    batch_id: BatchId | None
    endpoint: str
    model: str | None
    metadata: dict[str, str] | None
    output_text: str | None
    response: ProviderAnswer | None
    error: JobError | None
    usage: JobUsage | None
    cost: Money | None
    receipt: Receipt | None
    attempts: Annotated[int, Field(ge=0)]
    created_at: PreciseSeconds
    expires_at: PreciseSeconds | None
    webhook_url: str | None
    webhook_events: list[JobEvent] | None
    queued_at: PreciseSeconds
    started_at: PreciseSeconds | None
    finished_at: PreciseSeconds | None


class RowOutcome(TypedDict):
    """A row of a batch with its outcome."""

    custom_id: str
    status: Annotated[str, one_of("pending", "succeeded", "failed", "cancelled", "expired")]
    output: str | None
    response: ProviderAnswer | None
    error: JobError | None
    usage: RowUsage | None
    cost: Dollars | None
    receipt: Receipt | None


class Row(RowOutcome):
    """A row of a batch with its outcome, in a page of them."""

    id: Annotated[str, Field(pattern=r"^batch_req_[0-9a-f]{32}_[0-9]+$")]
    object: Annotated[str, one_of("batch.result")]


class LineError(TypedDict):
    """A line of an input that cannot be used; lines are counted from 1."""

    code: str
    line: int
    message: str
    param: str | None


class LineErrors(TypedDict):
    """The first of an input's errors, and how many there are of each code."""

    object: Annotated[str, one_of("list")]
    data: list[LineError]
    total: int
    counts: dict[str, int]


class RequestCounts(TypedDict):
    """The batch's rows as clients of the Batch API count them: what did not complete has failed."""

    total: Rows
    completed: Rows
    failed: Rows


class Counts(TypedDict):
    """The batch's rows by their outcomes."""

    total: Rows
    pending: Rows
    succeeded: Rows
    failed: Rows
    cancelled: Rows
    expired: Rows


class InputTokensDetails(TypedDict):
    cached_tokens: Tokens


class OutputTokensDetails(TypedDict):
    reasoning_tokens: Tokens


class BatchUsage(TypedDict):
    """The sums of the receipts of a batch."""

    input_tokens: Tokens
    input_tokens_details: InputTokensDetails
    output_tokens: Tokens
    output_tokens_details: OutputTokensDetails
    total_tokens: Tokens


class ListedBatch(TypedDict):
    """Jobs submitted together, with their counts."""

    id: BatchId
    object: Annotated[str, one_of("batch")]
    kind: Annotated[str, one_of("single", "jsonl", "csv", "inline")]
    endpoint: str
    model: str | None
    input_file_id: FileId | None
    completion_window: str
    on_error: Annotated[str, one_of("fail", "skip")]
    status: Annotated[str, one_of(*BATCH_STATUSES)]
    output_file_id: FileId | None
    error_file_id: FileId | None
    errors: LineErrors | None
    request_counts: RequestCounts
    counts: Counts
    usage: BatchUsage
    cost: Money
    max_cost: Money | None
    paused_reason: Annotated[str, one_of("max_cost", "spend_cap", "account_suspended", "requested")] | None
    pause_requested_at: UnixSeconds | None
    webhook_url: str | None
    webhook_events: list[BatchEvent] | None
    rows_per_second: Annotated[float, Field(ge=0)]
    estimated_completion_at: UnixSeconds | None
    metadata: dict[str, str] | None
    created_at: UnixSeconds
    in_progress_at: UnixSeconds | None
    expires_at: UnixSeconds | None
    finalizing_at: UnixSeconds | None
    cancelling_at: UnixSeconds | None
    completed_at: UnixSeconds | None
    failed_at: UnixSeconds | None
    cancelled_at: UnixSeconds | None
    expired_at: UnixSeconds | None


class QueuePosition(TypedDict):
    """How many accounts are served before, and how many rows are claimed before."""

    accounts: Annotated[int, Field(ge=0)]
    rows: Rows


class Batch(ListedBatch):
    """A batch by itself, with its place in the queue: null unless it waits for its turn."""

    queue_position: QueuePosition | None


class EstimatedTokens(TypedDict):
    """Tokens of the prompts, and the most that the answers may have."""

    prompt: Tokens
    max_output: Tokens
    basis: str


class EstimatedCost(TypedDict):
    """The prompts alone, and every answer as long as it may get; models without a known price are left out."""

    min: Money
    max: Money
    models_without_price: list[str]


class EstimatedLimits(TypedDict):
    """The limits of the account that the batch meets, and the code of the one that has no room for it now."""

    plan: str
    within: bool
    refused_by: str | None
    reserved_tokens: Tokens
    reserved_cost: Money
    max_rows: Rows
    max_file_bytes: int


class EstimatedDuration(TypedDict):
    """How long the batch may take, behind the rows that wait already."""

    seconds: int | None
    rows_ahead: Rows
    rows_per_second: float | None
    basis: str


class BatchEstimate(TypedDict):
    """What a batch would be. Nothing is stored."""

    object: Annotated[str, one_of("batch.estimate")]
    valid: bool
    errors: LineErrors | None
    rows: Rows
    failing_rows: Rows
    tokens: EstimatedTokens
    cost: EstimatedCost
    models: dict[str, Rows]
    limits: EstimatedLimits
    duration: EstimatedDuration


class File(TypedDict):
    """An input, or what a batch put out."""

    id: FileId
    object: Annotated[str, one_of("file")]
    bytes: Annotated[int, Field(ge=0)]
    created_at: UnixSeconds
    expires_at: UnixSeconds | None
    filename: str
    purpose: Annotated[str, one_of("batch", "batch_output")]
    status: Annotated[str, one_of("processed")]


class DeletedFile(TypedDict):
    """A file that is gone."""

    id: FileId
    object: Annotated[str, one_of("file")]
    deleted: bool


class Model(TypedDict):
    """A model that the provider serves and the plan allows."""

    id: str
    object: Annotated[str, one_of("model")]
    created: UnixSeconds
    owned_by: str


class Models(TypedDict):
    """All of them."""

    object: Annotated[str, one_of("list")]
    data: list[Model]


class Alive(TypedDict):
    """The process answers."""

    status: Annotated[str, one_of("ok")]


class Readiness(TypedDict):
    """Whether requests can be served; each service says `ok`, or what is wrong with it."""

    status: Annotated[str, one_of("ready", "not ready")]
    checks: dict[str, str]
    rate_limits: Annotated[str, one_of("shared", "each process by itself")]
