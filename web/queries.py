"""What the queries of requests may say: typed like the forms of bodies, from which they are documented too."""

from typing import Annotated, Any, Literal, TypeVar, get_origin

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from common.errors import InvalidRequest
from common.usage import GROUPS, Group
from common.webhook_deliveries import State
from common.webhook_events import EventType
from web import forms
from web.fields import Model, Text, documented

QueryT = TypeVar("QueryT", bound="Query")
MAX_PAGE = 100
DEFAULT_PAGE = 20
MAX_FILES_PAGE = 10_000
MAX_RESULTS_PAGE = 1_000
MAX_USAGE_PAGE = 1_000
DEFAULT_USAGE_PAGE = 100


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise ValueError("is a whole number, written in digits")
    return value


def _last_id(pattern: str) -> Any:
    return Field(
        description="The last id of the page before.",
        # For the documentation alone: what refuses others is the list's own verb, which knows what it lists.
        json_schema_extra={"pattern": f"^{pattern}$"},
    )


def _groups(value: object) -> object:
    wanted = [group for item in value for group in item.split(",")] if isinstance(value, list) else []
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(GROUPS):
        raise ValueError(f"takes one or more of {', '.join(GROUPS)}, each once")
    return tuple(wanted)


DIGITS = BeforeValidator(_digits)
# The year 2286; milliseconds of today are beyond it, and no moment that is meant.
UNIX_SECONDS = Field(ge=0, le=9_999_999_999, description="Unix seconds.")
GROUPS_SCHEMA = {"type": "array", "items": {"enum": list(GROUPS)}, "uniqueItems": True}
Limit = Annotated[int, Field(ge=0, le=MAX_PAGE, description="Items in a page."), DIGITS]


class Query(BaseModel):
    """A query holds text. Parameters that nobody reads are no error: proxies and clients add theirs."""

    model_config = ConfigDict(frozen=True)


class JobList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("job_[0-9a-f]{32}")] | None = None
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "expired"] | None = None


class BatchList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("batch_[0-9a-f]{32}")] | None = None


class FileList(Query):
    limit: Annotated[int, Field(ge=0, le=MAX_FILES_PAGE, description="Items in a page."), DIGITS] = MAX_FILES_PAGE
    after: Annotated[str, _last_id("file-[0-9a-f]{32}")] | None = None
    order: Annotated[Literal["asc", "desc"], Field(description="By creation.")] = "desc"
    purpose: Text | None = None


class Results(Query):
    format: Annotated[Literal["csv", "jsonl"], Field(description="Every row, as a download.")] | None = None
    limit: Annotated[int, Field(ge=0, le=MAX_RESULTS_PAGE, description="Rows in a page."), DIGITS] = DEFAULT_PAGE
    after: Annotated[str, _last_id(r"batch_req_[0-9a-f]{32}_[0-9]{1,9}")] | None = None
    status: Literal["pending", "succeeded", "failed", "cancelled", "expired"] | None = None
    custom_id: Text | None = None


class Content(Query):
    offset: Annotated[int, Field(ge=0, le=2**31 - 1, description="Lines of a batch's file to leave out."), DIGITS] = 0


class KeyList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("key_[0-9a-f]{32}")] | None = None


class WebhookEndpointList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("we_[0-9a-f]{32}")] | None = None


class WebhookDeliveryList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("dlv_[0-9a-f]{32}")] | None = None
    endpoint_id: Annotated[str, documented(pattern="^we_[0-9a-f]{32}$")] | None = None
    event_id: Annotated[str, documented(pattern="^evt_[0-9a-f]{32}$")] | None = None
    event_type: EventType | None = None
    status: State | None = None


class MemberList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("user_[0-9a-f]{32}")] | None = None


class InvitationList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("inv_[0-9a-f]{32}")] | None = None


class AccountList(Query):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("acct_[0-9a-f]{32}")] | None = None


class OfAccount(Query):
    account_id: Annotated[str, documented(pattern="^acct_[0-9a-f]{32}$")] | None = None


class PausedBatches(OfAccount):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("batch_[0-9a-f]{32}")] | None = None


class AuditLog(OfAccount):
    limit: Limit = DEFAULT_PAGE
    after: Annotated[str, _last_id("audit_[0-9a-f]{32}")] | None = None


class UsageRange(Query):
    """Without a range, a grouping or a page the answer is totals; with any of them it is a page of buckets."""

    model_config = ConfigDict(extra="forbid")

    start_time: Annotated[int, UNIX_SECONDS, DIGITS] | None = None
    end_time: Annotated[int, UNIX_SECONDS, DIGITS] | None = None
    group_by: Annotated[tuple[Group, ...], BeforeValidator(_groups), WithJsonSchema(GROUPS_SCHEMA)] = ()
    model: Model | None = None
    api_key_id: Annotated[str, documented(pattern="^key_[0-9a-f]{32}$")] | None = None
    batch_id: Annotated[str, documented(pattern="^batch_[0-9a-f]{32}$")] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_USAGE_PAGE, description="Buckets in a page."), DIGITS] = DEFAULT_USAGE_PAGE
    page: Annotated[str, Field(description="The next_page of the page before.")] | None = None


def read(query: type[QueryT]) -> QueryT:
    """The request's query. Lists may be there several times, also as OpenAI's clients write them: `name[]=`. Raises
    InvalidRequest naming the first parameter that is wrong, or there more than once."""
    found: dict[str, Any] = {}
    for sent, values in request.args.lists():
        name = sent.removesuffix("[]")
        field = query.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is tuple:
            found.setdefault(name, []).extend(values)
        elif len(values) > 1:
            raise InvalidRequest(f"{sent} is there {len(values)} times: send it once.", param=sent)
        else:
            found[sent] = values[0]
    return forms.parse(query, found)
