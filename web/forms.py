"""What requests may say: typed forms, checked by pydantic, with errors that name the field."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from common import json_text, webhook_urls
from common.batches import DEFAULT_WINDOW
from common.endpoints import CHAT, MAX_MODEL_CHARACTERS, PROMPT_FIELDS, Endpoint
from common.errors import InvalidRequest, TooLarge
from common.jobs import MAX_EXPIRES_IN_SECONDS
from common.keys import DEFAULT_OVERLAP, MAX_LIFE, MAX_OVERLAP, Scope
from common.plans import MOST_OUTPUT_TOKENS
from common.reservations import ANSWERS, MAX_ANSWERS, OUTPUT_BOUNDS
from common.settings import settings
from common.submission_webhooks import Webhook
from common.webhook_events import BATCH_TYPES, JOB_TYPES, BatchEvent, JobEvent
from web.fields import (
    STORABLE_NOT_BLANK,
    WHOLE,
    Dollars,
    JsonObject,
    Metadata,
    Model,
    Name,
    NotBlank,
    Stop,
    Text,
    TextNotBlank,
    WebhookUrl,
)

FormT = TypeVar("FormT", bound=BaseModel)
MAX_TEMPLATE_CHARACTERS = 100_000
EXAMPLE_BODY: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}
# What common.batches.window takes: from 1h to 168h, and from 1d to 7d.
WINDOW = "^(([1-9]|[1-9][0-9]|1[0-5][0-9]|16[0-8])h|[1-7]d)$"
OUTPUT_TOKENS = Field(ge=1, le=MOST_OUTPUT_TOKENS)
# An hour to 30 days.
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
KEPT_SECONDS = Field(ge=3_600, le=2_592_000)


# What either form of a job says beside the request itself.
OF_BOTH_JOBS = frozenset({"metadata", "expires_in", "webhook_url", "webhook_events"})
JobEvents = Annotated[list[JobEvent], Field(min_length=1, max_length=len(JOB_TYPES))]
BatchEvents = Annotated[list[BatchEvent], Field(min_length=1, max_length=len(BATCH_TYPES))]
# Events are what a URL is told of.
OF_WEBHOOKS: Any = {
    "anyOf": [
        {"properties": {"webhook_events": {"type": "null"}}},
        {"required": ["webhook_url"], "properties": {"webhook_url": {"type": "string"}}},
    ]
}
ExpiresIn = Annotated[int, Field(ge=1, le=MAX_EXPIRES_IN_SECONDS), WHOLE]


class Form(BaseModel):
    """Nothing is coerced, and an unknown field is an error: a misspelt setting must not be ignored."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Sampling(Form):
    """The fields of a chat completion that the short form and a CSV share; `body_fields` are those that were set."""

    max_tokens: Annotated[int, OUTPUT_TOKENS, WHOLE] | None = None
    max_completion_tokens: Annotated[int, OUTPUT_TOKENS, WHOLE] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    response_format: JsonObject | None = None

    def body_fields(self) -> dict[str, Any]:
        set_fields = self.model_dump(exclude_none=True)
        return {name: value for name, value in set_fields.items() if name not in OWN_FIELDS}


# What the short form and the CSV form say in their own words; everything else goes into the body as it is.
OWN_FIELDS = frozenset(
    {"model", "prompt", "system", "metadata", "max_cost", "expires_in", "webhook_url", "webhook_events"}
)


class ShortJob(Sampling):
    """A job as a model and a prompt."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "gpt-4o-mini", "prompt": "Say hello."}]} | OF_WEBHOOKS
    )

    model: Model
    prompt: NotBlank
    system: str | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, WHOLE] | None = None
    stop: Stop | None = None
    reasoning_effort: str | None = None
    metadata: Metadata | None = None
    expires_in: ExpiresIn | None = None
    webhook_url: WebhookUrl | None = None
    webhook_events: JobEvents | None = None


def _prompt_of(endpoint: str, field: str) -> dict[str, Any]:
    messages = {"type": "array", "minItems": 1}
    prompt = (
        messages
        if field == "messages"
        else {"type": ["string", "array"], "minItems": 1, "pattern": json_text.NOT_BLANK}
    )
    bounds = dict.fromkeys(OUTPUT_BOUNDS[endpoint], MOST_OUTPUT_TOKENS)
    bounds |= dict.fromkeys(ANSWERS.get(endpoint, ()), MAX_ANSWERS)
    counts = {name: {"type": ["integer", "null"], "minimum": 1, "maximum": most} for name, most in bounds.items()}
    return {
        "title": endpoint,
        "properties": {
            "endpoint": {"const": endpoint},
            "body": {"required": [field], "properties": {field: prompt} | counts},
        },
    }


# What common.endpoints and common.reservations ask of a body, which files of requests have too.
CheckedBody = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "required": ["model"],
            "properties": {
                "model": {"type": "string", "pattern": STORABLE_NOT_BLANK, "maxLength": MAX_MODEL_CHARACTERS},
                "stream": {"enum": [False, None]},
            },
        }
    ),
]


class FullJob(Form):
    """A job as an endpoint and the provider's own JSON."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_prompt_of(*item) for item in PROMPT_FIELDS.items()]} | OF_WEBHOOKS
    )

    endpoint: Endpoint
    body: CheckedBody
    metadata: Metadata | None = None
    expires_in: ExpiresIn | None = None
    webhook_url: WebhookUrl | None = None
    webhook_events: JobEvents | None = None


class CsvBatch(Sampling):
    """The fields beside the file of a CSV upload."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"webhook_events": ["webhook_url"]}})

    model: Model
    prompt: Annotated[TextNotBlank, Field(max_length=MAX_TEMPLATE_CHARACTERS)]
    system: Annotated[Text, Field(max_length=MAX_TEMPLATE_CHARACTERS)] | None = None
    max_cost: Dollars | None = None
    metadata: Metadata | None = None
    webhook_url: WebhookUrl | None = None
    webhook_events: BatchEvents | None = None


class ExpiresAfter(Form):
    """How long something is kept, from its creation on."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, KEPT_SECONDS, WHOLE]


class UploadFile(Form):
    """The fields beside an uploaded file."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependentRequired": {ANCHOR: [SECONDS], SECONDS: [ANCHOR]},
        }
    )

    purpose: Literal["batch"]
    anchor: Literal["created_at"] | None = Field(alias=ANCHOR, default=None)
    seconds: Annotated[int, KEPT_SECONDS, WHOLE] | None = Field(alias=SECONDS, default=None)


class CreateBatch(Form):
    """A batch of an uploaded file, or of the requests that it holds itself."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["input_file_id"], "properties": {"input_file_id": {"type": "string"}}},
                {"required": ["requests"], "properties": {"requests": {"type": "array"}}},
            ],
            "examples": [{"endpoint": CHAT, "requests": [{"custom_id": "one", "body": EXAMPLE_BODY}]}],
        }
        | OF_WEBHOOKS
    )

    input_file_id: str | None = None
    requests: Annotated[list[Any], Field(min_length=1)] | None = None
    endpoint: Endpoint
    completion_window: Annotated[str, Field(json_schema_extra={"pattern": WINDOW})] = DEFAULT_WINDOW
    on_error: Literal["fail", "skip"] = "fail"
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
    max_cost: Dollars | None = None
    webhook_url: WebhookUrl | None = None
    webhook_events: BatchEvents | None = None


class UpdateBatch(Form):
    """What may be changed of a batch while it runs."""

    max_cost: Dollars | None


class Expiring(Form):
    """A key's time: until a moment (unix seconds), or for so many seconds from now."""

    expires_at: Annotated[int, Field(ge=1, le=253_402_300_799), WHOLE] | None = None
    expires_in: Annotated[int, Field(ge=1, le=int(MAX_LIFE.total_seconds())), WHOLE] | None = None

    def expiry(self) -> datetime | None:
        """The moment of either. Raises InvalidRequest for both."""
        if self.expires_at is not None and self.expires_in is not None:
            raise InvalidRequest("Send either expires_at or expires_in.", param="expires_in")
        if self.expires_in is not None:
            return datetime.now(UTC) + timedelta(seconds=self.expires_in)
        return datetime.fromtimestamp(self.expires_at, UTC) if self.expires_at is not None else None


class CreateKey(Expiring):
    """A key to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "nightly", "scopes": ["jobs", "batches"]}]})

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)]


class RotateKey(Expiring):
    """A key to be replaced by one like it."""

    overlap_seconds: Annotated[int, Field(ge=0, le=int(MAX_OVERLAP.total_seconds())), WHOLE] = int(
        DEFAULT_OVERLAP.total_seconds()
    )


def webhook(form: ShortJob | FullJob | CreateBatch | CsvBatch) -> Webhook | None:
    """Where a job or batch is told of. Raises InvalidRequest for a URL that no webhook may go to."""
    if form.webhook_url is None:
        if form.webhook_events is not None:
            message = "webhook_events says what a webhook_url is told of: send that too, or leave both out."
            raise InvalidRequest(message, param="webhook_events")
        return None
    webhook_urls.check(form.webhook_url, "webhook_url")
    return Webhook(form.webhook_url, list[str](form.webhook_events) if form.webhook_events is not None else None)


def parse(form: type[FormT], value: object) -> FormT:
    """The value as a form. Raises InvalidRequest naming the first field that is wrong."""
    try:
        return form.model_validate(_with_one_unknown(form, value))
    except ValidationError as error:
        raise _first_problem(error) from None


def _with_one_unknown(form: type[FormT], value: object) -> object:
    """The value with one of the fields that the form does not have, if it has any: there may be a million, and pydantic
    would make a problem of each."""
    if not isinstance(value, dict) or len(value) <= len(form.model_fields):
        return value
    names = {field.alias or name for name, field in form.model_fields.items()}
    unknown = next(name for name in value if name not in names)
    return {name: value[name] for name in value if name in names or name == unknown}


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


def body(limit: int | None = None) -> bytes:
    """The request's body, which is held in memory. Raises TooLarge over the limit, which is MAX_BODY_BYTES."""
    limit = settings().max_body_bytes if limit is None else limit
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
