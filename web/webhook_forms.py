"""What requests about webhooks may say."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from common.errors import InvalidRequest
from common.webhook_endpoints import MAX_DESCRIPTION_CHARACTERS, Changes
from common.webhook_events import DEFAULT_TYPES, EventType
from common.webhook_rotation import DEFAULT_OVERLAP, MAX_OVERLAP
from web.fields import WHOLE, Name, Text, WebhookUrl
from web.forms import Form
from web.queries import UNIX_SECONDS

MAX_EVENT_TYPES = 50
OVERLAP, KEEP_OLD = "overlap_seconds", "keep_old_secret_active_for_24_hours"

Description = Annotated[Text, Field(max_length=MAX_DESCRIPTION_CHARACTERS)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=MAX_EVENT_TYPES)]
Include = Annotated[list[Literal["result"]], Field(max_length=MAX_EVENT_TYPES)]
Moment = Annotated[int, UNIX_SECONDS, WHOLE]

EXAMPLE: Any = {"url": "https://example.com/webhooks", "name": "orders", "event_types": ["batch.completed"]}


class CreateEndpoint(Form):
    """An endpoint to be made. Without event types it is told of all but those that come very often."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    url: WebhookUrl
    name: Name | None = None
    description: Description | None = None
    event_types: EventTypes | None = None
    include: Include | None = None

    def wanted(self) -> Changes:
        return {"event_types": DEFAULT_TYPES} | _changes(self)


class UpdateEndpoint(Form):
    """What is to be otherwise of an endpoint; what is not sent, or null, stays."""

    url: WebhookUrl | None = None
    name: Name | None = None
    description: Description | None = None
    event_types: EventTypes | None = None
    include: Include | None = None

    def changes(self) -> Changes:
        return _changes(self)


def _changes(form: CreateEndpoint | UpdateEndpoint) -> Changes:
    changes: Changes = {}
    if form.url is not None:
        changes["url"] = form.url
    if form.name is not None:
        changes["name"] = form.name
    if form.description is not None:
        changes["description"] = form.description
    if form.event_types is not None:
        changes["event_types"] = form.event_types
    if form.include is not None:
        changes["include_result"] = "result" in form.include
    return changes


class RotateSecret(Form):
    """For how long the secret before signs too."""

    overlap_seconds: Annotated[int, Field(ge=0, le=int(MAX_OVERLAP.total_seconds())), WHOLE] = int(
        DEFAULT_OVERLAP.total_seconds()
    )

    def overlap(self) -> timedelta:
        return timedelta(seconds=self.overlap_seconds)


class RotateEndpointSecret(RotateSecret):
    """As RotateSecret, or as OpenAI's clients say it: a day, or not at all."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": [OVERLAP, KEEP_OLD]}})

    keep_old_secret_active_for_24_hours: bool | None = None

    def overlap(self) -> timedelta:
        """Raises InvalidRequest where it is said in both ways."""
        if {OVERLAP, KEEP_OLD} <= self.model_fields_set:
            raise InvalidRequest(f"Send either {OVERLAP} or {KEEP_OLD}.", param=KEEP_OLD)
        if self.keep_old_secret_active_for_24_hours is None:
            return super().overlap()
        return timedelta(days=1) if self.keep_old_secret_active_for_24_hours else timedelta(0)


class SendSample(Form):
    """Of which type; the first that the endpoint is told of unless said otherwise."""

    event_type: EventType | None = None


class Replay(Form):
    """What to send again: what failed from a moment on, before another, to one endpoint or to all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"since": 1_790_000_000}]})

    since: Moment
    until: Moment | None = None
    endpoint_id: Annotated[Text, Field(max_length=100)] | None = None
