"""The JSON of webhooks. As web/schemas.py."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from common.webhook_events import EVENT_TYPES
from web.schemas import PreciseSeconds, UnixSeconds, id_like, one_of

EventType = Annotated[str, one_of(*EVENT_TYPES)]
EndpointId = Annotated[str, id_like("we_")]
Count = Annotated[int, Field(ge=0)]


class WebhookEndpoint(TypedDict):
    """Where the account is told of events: an endpoint of its own, or a URL that its jobs and batches name."""

    id: EndpointId
    object: Annotated[str, one_of("webhook_endpoint")]
    url: str
    origin: Annotated[str, one_of("endpoint", "submission")]
    name: str
    description: str
    event_types: list[EventType]
    include: list[Annotated[str, one_of("result")]]
    status: Annotated[str, one_of("enabled", "disabled")]
    disabled_reason: Annotated[str, one_of("requested", "gone", "failing")] | None
    disabled_at: UnixSeconds | None
    failing_since: UnixSeconds | None
    previous_secret_expires_at: UnixSeconds | None
    created_at: UnixSeconds


class WebhookEndpointWithSecret(WebhookEndpoint):
    """An endpoint with the secret that it was just given. Nothing shows it again."""

    signing_secret: str


class DeletedWebhookEndpoint(TypedDict):
    """An endpoint that is gone."""

    id: EndpointId
    object: Annotated[str, one_of("webhook_endpoint.deleted")]
    deleted: bool


class WebhookSecret(TypedDict):
    """The account's secret, just made: it signs for URLs that jobs and batches name. Nothing shows it again."""

    object: Annotated[str, one_of("webhook_secret")]
    signing_secret: str
    previous_secret_expires_at: UnixSeconds | None
    created_at: UnixSeconds


class WebhookEventTypes(TypedDict):
    """Every type of event that there is."""

    object: Annotated[str, one_of("list")]
    data: list[EventType]


class WebhookEvent(TypedDict):
    """What is told of; its id is the header webhook-id of each attempt."""

    id: Annotated[str, id_like("evt_")]
    type: str
    created_at: UnixSeconds
    data: dict[str, Any]


class WebhookDelivery(TypedDict):
    """An event on its way to an endpoint. The status code and the failure are those of the last attempt."""

    id: Annotated[str, id_like("dlv_")]
    object: Annotated[str, one_of("webhook_delivery")]
    endpoint_id: EndpointId
    event: WebhookEvent
    status: Annotated[str, one_of("pending", "sending", "delivered", "failed")]
    attempt_count: Count
    last_status_code: int | None
    last_failure: str | None
    next_attempt_at: PreciseSeconds | None
    created_at: PreciseSeconds
    ended_at: PreciseSeconds | None


class WebhookAttempt(TypedDict):
    """An attempt that is over: how long it took, and what came. The answer is its first 1,024 bytes, as text."""

    number: Annotated[int, Field(ge=1)]
    started_at: PreciseSeconds
    milliseconds: Count
    status_code: int | None
    failure: str | None
    answer: str | None


class WebhookDeliveryWithAttempts(WebhookDelivery):
    """A delivery with its attempts, oldest first; of very many, the newest hundred."""

    attempts: list[WebhookAttempt]


class WebhookReplay(TypedDict):
    """How many deliveries are sent again, and whether the same request would find more."""

    object: Annotated[str, one_of("webhook_replay")]
    replayed: Count
    has_more: bool
