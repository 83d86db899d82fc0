"""What requests may say: typed forms, checked by pydantic, with errors that name the field."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from flask import request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from common import json_text
from common.batches import DEFAULT_WINDOW
from common.endpoints import MAX_MODEL_CHARACTERS, Endpoint
from common.errors import InvalidRequest, TooLarge
from common.keys import DEFAULT_OVERLAP, MAX_LIFE, MAX_OVERLAP
from common.money import parse_dollars
from common.names import MAX_NAME_CHARACTERS
from common.settings import settings
from common.usage import GROUPS, Group

FormT = TypeVar("FormT", bound="Form")
MAX_PAGE = 100
DEFAULT_PAGE = 20
MAX_FILES_PAGE = 10_000
MAX_RESULTS_PAGE = 1_000
MAX_USAGE_PAGE = 1_000
DEFAULT_USAGE_PAGE = 100
# The year 2286; milliseconds of today are beyond it, and no moment that is meant.
MAX_UNIX_SECONDS = 9_999_999_999
MAX_TEMPLATE_CHARACTERS = 100_000
MAX_NESTING = 100


def _storable(value: str) -> str:
    if not json_text.is_storable(value):
        raise ValueError("holds a NUL character or half of a surrogate pair")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _text_or_texts(value: object) -> object:
    if not all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
        raise ValueError("must be a string or a list of strings")
    return value


def _storable_json(value: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [value]
    for _ in range(MAX_NESTING):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _storable(item)
            elif isinstance(item, list):
                deeper += item
            elif isinstance(item, dict):
                deeper += [*item, *item.values()]
        if not deeper:
            return value
        level = deeper
    raise ValueError(f"is nested over {MAX_NESTING} levels deep")


Text = Annotated[str, AfterValidator(_storable)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_storable_json)]
Model = Annotated[Text, AfterValidator(_not_blank), Field(max_length=MAX_MODEL_CHARACTERS)]
Name = Annotated[Text, AfterValidator(_not_blank), Field(max_length=MAX_NAME_CHARACTERS)]
MetadataKey = Annotated[Text, Field(min_length=1, max_length=64)]
# Not the union of the two: pydantic would name its branches as if they were fields.
Stop = Annotated[Any, AfterValidator(_text_or_texts)]
Metadata = Annotated[dict[MetadataKey, Annotated[Text, Field(max_length=512)]], Field(max_length=16)]


def _nano_dollars(value: object) -> int:
    amount = parse_dollars(value if isinstance(value, str) else "")
    if amount == 0:
        raise ValueError("is more than nothing")
    return amount


# An amount of dollars as an exact string, read as nano-dollars.
Dollars = Annotated[int, BeforeValidator(_nano_dollars)]


class Form(BaseModel):
    """Nothing is coerced, and an unknown field is an error: a misspelt setting must not be ignored."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Sampling(Form):
    """The fields of a chat completion that the short form and a CSV share; `body_fields` are those that were set."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    response_format: JsonObject | None = None

    def body_fields(self) -> dict[str, Any]:
        set_fields = self.model_dump(exclude_none=True)
        return {name: value for name, value in set_fields.items() if name not in OWN_FIELDS}


# What the short form and the CSV form say in their own words; everything else goes into the body as it is.
OWN_FIELDS = frozenset({"model", "prompt", "system", "metadata", "max_cost"})


class ShortJob(Sampling):
    """A job as a model and a prompt."""

    model: Model
    prompt: Annotated[str, AfterValidator(_not_blank)]
    system: str | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: Stop | None = None
    reasoning_effort: str | None = None
    metadata: Metadata | None = None


class FullJob(Form):
    """A job as an endpoint and the provider's own JSON."""

    endpoint: Endpoint
    body: dict[str, Any]
    metadata: Metadata | None = None


class CsvBatch(Sampling):
    """The fields beside the file of a CSV upload."""

    model: Model
    prompt: Annotated[Text, AfterValidator(_not_blank), Field(max_length=MAX_TEMPLATE_CHARACTERS)]
    system: Annotated[Text, Field(max_length=MAX_TEMPLATE_CHARACTERS)] | None = None
    max_cost: Dollars | None = None
    metadata: Metadata | None = None


class ExpiresAfter(Form):
    """How long something is kept, from its creation on."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class UploadFile(Form):
    """The fields beside an uploaded file."""

    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


class CreateBatch(Form):
    """A batch of an uploaded file, or of the requests that it holds itself."""

    input_file_id: str | None = None
    requests: Annotated[list[Any], Field(min_length=1)] | None = None
    endpoint: Endpoint
    completion_window: str = DEFAULT_WINDOW
    on_error: Literal["fail", "skip"] = "fail"
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
    max_cost: Dollars | None = None


class UpdateBatch(Form):
    """What may be changed of a batch while it runs."""

    max_cost: Dollars | None


class Expiring(Form):
    """A key's time: until a moment (unix seconds), or for so many seconds from now."""

    expires_at: Annotated[int, Field(ge=1, le=253_402_300_799)] | None = None
    expires_in: Annotated[int, Field(ge=1, le=int(MAX_LIFE.total_seconds()))] | None = None

    def expiry(self) -> datetime | None:
        """The moment of either. Raises InvalidRequest for both."""
        if self.expires_at is not None and self.expires_in is not None:
            raise InvalidRequest("Send either expires_at or expires_in.", param="expires_in")
        if self.expires_in is not None:
            return datetime.now(UTC) + timedelta(seconds=self.expires_in)
        return datetime.fromtimestamp(self.expires_at, UTC) if self.expires_at is not None else None


Scope = Literal["jobs", "batches", "files", "webhooks", "usage", "keys", "admin"]


class CreateKey(Expiring):
    """A key to be made."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)]


class RotateKey(Expiring):
    """A key to be replaced by one like it."""

    overlap_seconds: Annotated[int, Field(ge=0, le=int(MAX_OVERLAP.total_seconds()))] = int(
        DEFAULT_OVERLAP.total_seconds()
    )


def _digits(value: object) -> object:
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10):
        raise ValueError("is a whole number of at most ten digits")
    return int(value)


def _groups(value: object) -> object:
    wanted = [group for item in value for group in item.split(",")] if isinstance(value, list) else []
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(GROUPS):
        raise ValueError(f"takes one or more of {', '.join(GROUPS)}, each once")
    return tuple(wanted)


class UsageQuery(Form):
    """The query of a usage request. Times are unix seconds; the range is from the first to before the second."""

    start_time: Annotated[int, BeforeValidator(_digits), Field(le=MAX_UNIX_SECONDS)] | None = None
    end_time: Annotated[int, BeforeValidator(_digits), Field(le=MAX_UNIX_SECONDS)] | None = None
    group_by: Annotated[tuple[Group, ...], BeforeValidator(_groups)] = ()
    model: Model | None = None
    api_key_id: str | None = None
    batch_id: str | None = None
    limit: Annotated[int, BeforeValidator(_digits), Field(ge=1, le=MAX_USAGE_PAGE)] = DEFAULT_USAGE_PAGE
    page: str | None = None


def query(lists: Collection[str] = ()) -> dict[str, Any]:
    """The parameters of the query; those named in `lists` may be there several times, also as OpenAI's clients write
    lists: `name[]=`. Raises InvalidRequest for any other that is."""
    found: dict[str, Any] = {}
    for sent, values in request.args.lists():
        name = sent.removesuffix("[]")
        if name in lists:
            found.setdefault(name, []).extend(values)
        elif len(values) > 1:
            raise InvalidRequest(f"{sent} is there {len(values)} times: send it once.", param=sent)
        else:
            found[sent] = values[0]
    return found


def parse(form: type[FormT], value: object) -> FormT:
    """The value as a form. Raises InvalidRequest naming the first field that is wrong."""
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise _first_problem(error) from None


def _first_problem(error: ValidationError) -> InvalidRequest:
    problem = error.errors(include_url=False, include_input=False)[0]
    # pydantic's location also names the branch of a union and the "[key]" of a mapping; a customer's path has neither.
    path = [str(part) for part in problem["loc"] if not str(part).startswith(("function-", "constrained-", "[key]"))]
    param = ".".join(path) if path else None
    match problem["type"]:
        case "missing":
            message = f"{param} is missing: it is required."
        case "extra_forbidden":
            message = f"There is no field {param!r} here: leave it out, or mend its spelling."
        case "value_error":
            message = f"{param} {problem['ctx']['error']}."
        case _:
            message = f"{param or 'The body'}: {problem['msg']}."
    return InvalidRequest(message, param=param, code=problem["type"])


def body() -> bytes:
    """The request's body, which is held in memory. Raises TooLarge over MAX_BODY_BYTES."""
    limit = settings().max_body_bytes
    # A body in chunks does not tell its length, and werkzeug cuts it at its own limit without a word.
    request.max_content_length = limit + 1
    if (request.content_length or 0) > limit or len(content := request.get_data()) > limit:
        raise TooLarge(f"The body is over {limit:,} bytes: send less at once.", code="body_too_large")
    return content


def json_object() -> dict[str, Any]:
    """The request's body as a JSON object. Raises InvalidRequest, or TooLarge."""
    content = body()
    try:
        value = json_text.loads(content)
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return value


def page(largest: int = MAX_PAGE, default: int = DEFAULT_PAGE) -> tuple[int, str | None]:
    """`limit` (0 to `largest`) and `after` of a list request. Raises InvalidRequest."""
    return whole_number("limit", default=default, largest=largest), request.args.get("after")


def query_text(name: str) -> str | None:
    """A text of the query that is looked for in the database. Raises InvalidRequest."""
    value = request.args.get(name)
    if value is not None and not json_text.is_storable(value):
        raise InvalidRequest(f"{name} holds a NUL character or half of a surrogate pair.", param=name)
    return value


def whole_number(name: str, default: int, largest: int = 2**31 - 1) -> int:
    """A whole number of the query, from 0. Raises InvalidRequest."""
    shown = request.args.get(name, str(default))
    if not (shown.isascii() and shown.isdigit() and len(shown) <= 10 and int(shown) <= largest):
        raise InvalidRequest(f"{name} is a whole number from 0 to {largest}.", param=name)
    return int(shown)
