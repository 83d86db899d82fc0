"""How webhooks look in the API's JSON."""

from collections.abc import Sequence

from common import ids
from common.webhook_deliveries import Attempt, Delivery
from common.webhook_endpoints import Endpoint
from web import webhook_schemas
from web.render import precise, unix


def endpoint(found: Endpoint) -> webhook_schemas.WebhookEndpoint:
    return {
        "id": found.shown_id,
        "object": "webhook_endpoint",
        "url": found.url,
        "origin": found.origin,
        "name": found.name,
        "description": found.description,
        "event_types": list(found.event_types),
        "include": ["result"] if found.include_result else [],
        "status": found.state,
        "disabled_reason": found.disabled_reason,
        "disabled_at": unix(found.disabled_at),
        "failing_since": unix(found.failing_since),
        "previous_secret_expires_at": unix(found.previous_secret_until),
        "created_at": unix(found.created_at),
    }


def delivery(found: Delivery) -> webhook_schemas.WebhookDelivery:
    return {
        "id": found.shown_id,
        "object": "webhook_delivery",
        "endpoint_id": ids.show("we_", found.endpoint_id),
        "event": {
            "id": ids.show("evt_", found.event_id),
            "type": found.event_type,
            "created_at": unix(found.event_created_at),
            "data": found.data,
        },
        "status": found.state,
        "attempt_count": found.attempts,
        "last_status_code": found.status_code,
        "last_failure": found.failure,
        "next_attempt_at": precise(found.next_attempt_at),
        "created_at": precise(found.created_at),
        "ended_at": precise(found.ended_at),
    }


def with_attempts(found: Delivery, attempts: Sequence[Attempt]) -> webhook_schemas.WebhookDeliveryWithAttempts:
    return {**delivery(found), "attempts": [attempt(item) for item in attempts]}


def attempt(found: Attempt) -> webhook_schemas.WebhookAttempt:
    return {
        "number": found.number,
        "started_at": precise(found.started_at),
        "milliseconds": found.milliseconds,
        "status_code": found.status_code,
        "failure": found.failure,
        # A receiver may answer with anything, and it may be cut within a character.
        "answer": found.answer.decode(errors="replace") if found.answer is not None else None,
    }
