"""The JSON of what operators see. As web/schemas.py."""

from typing import Annotated, Any

from typing_extensions import TypedDict

from web.schemas import BatchId, Money, PreciseSeconds, Rows, UnixSeconds, id_like, one_of

AccountId = Annotated[str, id_like("acct_")]


class Account(TypedDict):
    """An account. `limits` are its own, in place of its plan's; caps are for a billing period."""

    id: AccountId
    object: Annotated[str, one_of("admin.account")]
    name: str
    status: Annotated[str, one_of("active", "suspended")]
    plan: str
    limits: dict[str, Any]
    soft_cap: Money | None
    hard_cap: Money | None
    billing_anchor: UnixSeconds
    created_at: UnixSeconds


class Platform(TypedDict):
    """Whether calls are made, and what those of this calendar month cost together."""

    object: Annotated[str, one_of("admin.platform")]
    status: Annotated[str, one_of("running", "stopped")]
    stopped_at: UnixSeconds | None
    stopped_reason: str | None
    hard_cap: Money | None
    month: UnixSeconds
    spent: Money


class Depth(TypedDict):
    """What waits of a plan; tickets are null while Redis does not answer."""

    plan: str
    pending_rows: Rows
    accounts_waiting: Rows
    running_rows: Rows
    tickets: Rows | None


class Queues(TypedDict):
    """What waits."""

    object: Annotated[str, one_of("admin.queues")]
    redis: Annotated[str, one_of("ok", "does not answer")]
    plans: list[Depth]
    tasks: dict[str, Rows | None]


class PausedBatch(TypedDict):
    """A batch of which nothing new starts."""

    id: BatchId
    object: Annotated[str, one_of("admin.paused_batch")]
    account_id: AccountId
    kind: str
    plan: str
    pending_rows: Rows
    reason: str
    paused_at: UnixSeconds | None


class AuditEntry(TypedDict):
    """Who did what, and when."""

    id: str
    object: Annotated[str, one_of("admin.audit_entry")]
    created_at: PreciseSeconds
    actor: str
    action: str
    account_id: AccountId | None
    details: dict[str, Any]
