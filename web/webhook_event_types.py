"""/v1/webhook_event_types: what there is to be told of."""

from flask import Blueprint, Response, jsonify

from common.webhook_events import EVENT_TYPES
from web import webhook_schemas
from web.auth import requires
from web.documented import documented

blueprint = Blueprint("webhook_event_types", __name__, url_prefix="/webhook_event_types")


@blueprint.get("")
@requires("webhooks")
@documented("List types of events", {200: webhook_schemas.WebhookEventTypes})
def list_types() -> Response:
    shown: webhook_schemas.WebhookEventTypes = {"object": "list", "data": list(EVENT_TYPES)}
    return jsonify(shown)
