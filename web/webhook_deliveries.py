"""/v1/webhook_deliveries: what was sent to the caller's endpoints, and sending it again."""

from datetime import UTC, datetime

from flask import Blueprint, Response, jsonify

from common import ids, webhook_deliveries
from common.webhook_deliveries import Wanted
from web import forms, queries, render, webhook_forms, webhook_render, webhook_schemas
from web.acting import in_own_account
from web.auth import caller, requires
from web.documented import documented
from web.schemas import Page

blueprint = Blueprint("webhook_deliveries", __name__, url_prefix="/webhook_deliveries")


@blueprint.get("")
@requires("webhooks")
@documented(
    "List webhook deliveries, newest first",
    {200: Page[webhook_schemas.WebhookDelivery]},
    query=queries.WebhookDeliveryList,
)
def list_deliveries() -> Response:
    query = queries.read(queries.WebhookDeliveryList)
    wanted = Wanted(
        ids.parse_wanted("we_", query.endpoint_id, "endpoint_id"),
        ids.parse_wanted("evt_", query.event_id, "event_id"),
        query.event_type,
        query.status,
    )
    found = webhook_deliveries.list_page(in_own_account(), caller().account_id, wanted, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, webhook_render.delivery))


@blueprint.get("/<delivery_id>")
@requires("webhooks")
@documented("Get a webhook delivery", {200: webhook_schemas.WebhookDeliveryWithAttempts})
def get(delivery_id: str) -> Response:
    """With its attempts: when, how long, what came back, and what went wrong."""
    found, attempts = webhook_deliveries.get(in_own_account(), caller().account_id, delivery_id)
    return jsonify(webhook_render.with_attempts(found, attempts))


@blueprint.post("/<delivery_id>/redeliver")
@requires("webhooks")
@documented("Send a webhook delivery again", {202: webhook_schemas.WebhookDelivery}, refuses=(409,))
def redeliver(delivery_id: str) -> tuple[Response, int]:
    """At once, also what was delivered: the same event with the same webhook-id."""
    again = webhook_deliveries.redeliver(in_own_account(), caller().account_id, delivery_id)
    return jsonify(webhook_render.delivery(again)), 202


@blueprint.post("/replay")
@requires("webhooks")
@documented(
    "Send what failed again",
    {202: webhook_schemas.WebhookReplay},
    json=(webhook_forms.Replay,),
    refuses=(404, 409),
)
def replay() -> tuple[Response, int]:
    """What failed since a moment, or in a range, to one endpoint or to all that are enabled; up to 10,000 at once."""
    form = forms.parse(webhook_forms.Replay, forms.json_object())
    until = datetime.fromtimestamp(form.until, UTC) if form.until is not None else None
    replayed, has_more = webhook_deliveries.replay(
        in_own_account(), caller().account_id, datetime.fromtimestamp(form.since, UTC), until, form.endpoint_id
    )
    shown: webhook_schemas.WebhookReplay = {"object": "webhook_replay", "replayed": replayed, "has_more": has_more}
    return jsonify(shown), 202
