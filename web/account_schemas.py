"""The JSON of what belongs to an account as a whole: its keys, its usage and its limits. As web/schemas.py."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from common.usage import GROUPS
from web.schemas import BatchId, Money, Tokens, UnixSeconds, id_like, one_of

KeyId = Annotated[str, id_like("key_")]
Count = Annotated[int, Field(ge=0)]


class ApiKey(TypedDict):
    """What may be shown of a key."""

    id: KeyId
    object: Annotated[str, one_of("api_key")]
    name: str
    prefix: str
    scopes: list[str]
    status: Annotated[str, one_of("active", "revoked", "expired")]
    created_at: UnixSeconds
    expires_at: UnixSeconds | None
    revoked_at: UnixSeconds | None
    last_used_at: UnixSeconds | None
    replaces: KeyId | None


class NewApiKey(ApiKey):
    """A key just made. Nothing shows the key itself again."""

    key: str


class UsageSums(TypedDict):
    """Sums over receipts. The cost is that of requests with a known price; cached tokens are part of the prompt's."""

    requests: Count
    requests_without_price: Count
    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    cost: Money


class UsageSpan(UsageSums):
    """Sums over the receipts of a time."""

    start_time: UnixSeconds | None
    end_time: UnixSeconds | None


class Usage(TypedDict):
    """What the account used."""

    object: Annotated[str, one_of("usage")]
    billing_period: UsageSpan
    last_24_hours: UsageSpan
    all_time: UsageSpan


class UsageAlike(TypedDict, total=False):
    """What receipts are alike in. The batch is null for all single jobs together."""

    day: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="In UTC.")]
    model: str | None
    api_key_id: KeyId | None
    batch_id: BatchId | None


class UsageBucket(UsageAlike, UsageSums):
    """Sums over the receipts that are alike in what they are grouped by."""

    object: Annotated[str, one_of("usage.bucket")]


class UsagePage(TypedDict):
    """Buckets, and the sums over those of all pages; `next_page` as `page` asks for the next ones."""

    object: Annotated[str, one_of("list")]
    start_time: UnixSeconds | None
    end_time: UnixSeconds | None
    group_by: list[Annotated[str, one_of(*GROUPS)]]
    total: UsageSums
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class Period(TypedDict):
    """A billing period."""

    start_time: UnixSeconds
    end_time: UnixSeconds


class RequestWindow(TypedDict):
    """How many requests may come in a time, how many still may, and when the oldest that counts goes."""

    limit: Count
    remaining: Count
    more_in_seconds: Count


class RequestWindows(TypedDict):
    """The two times that are counted in."""

    per_minute: RequestWindow
    per_day: RequestWindow


class RequestLimits(TypedDict):
    """How many requests may come by this key, or by the person who asks in its place, and by all of the account
    together."""

    key: RequestWindows
    account: RequestWindows


class TokenLimit(TypedDict):
    """Tokens of the billing period."""

    limit: Tokens
    used: Tokens
    reserved: Tokens
    remaining: Tokens
    resets_at: UnixSeconds


class QueueLimit(TypedDict):
    """Tokens held for jobs that have not ended."""

    limit: Tokens
    held: Tokens
    remaining: Tokens


class RunningLimit(TypedDict):
    """Jobs that workers run at once."""

    limit: Count
    now: Count
    remaining: Count


class MoneyLimit(TypedDict):
    """Money of the billing period; a cap is null where there is none."""

    soft_cap: Money | None
    soft_cap_reached_at: UnixSeconds | None
    hard_cap: Money | None
    used: Money
    reserved: Money
    remaining: Money | None
    resets_at: UnixSeconds


class Limits(TypedDict):
    """What applies to this key now, what is left of it, and when it resets."""

    object: Annotated[str, one_of("limits")]
    plan: str
    billing_period: Period
    requests: RequestLimits
    tokens: TokenLimit
    queued_tokens: QueueLimit
    running_jobs: RunningLimit
    money: MoneyLimit
    limits: dict[str, Any]
