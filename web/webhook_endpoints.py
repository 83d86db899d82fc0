"""/v1/webhook_endpoints: where the caller's account is told of its events."""

from flask import Blueprint, Response, jsonify

from common import webhook_deliveries, webhook_endpoints, webhook_rotation, webhook_samples
from common.webhook_endpoints import NewSecret
from web import forms, queries, render, webhook_forms, webhook_render, webhook_schemas
from web.acting import in_own_account
from web.auth import caller, requires
from web.documented import documented
from web.schemas import Page

blueprint = Blueprint("webhook_endpoints", __name__, url_prefix="/webhook_endpoints")


@blueprint.post("")
@requires("webhooks")
@documented(
    "Create a webhook endpoint",
    {201: webhook_schemas.WebhookEndpointWithSecret},
    json=(webhook_forms.CreateEndpoint,),
    refuses=(409,),
)
def create() -> tuple[Response, int]:
    """Makes an endpoint. This answer alone has its secret."""
    form = forms.parse(webhook_forms.CreateEndpoint, forms.json_object())
    return with_secret(webhook_endpoints.create(in_own_account(), caller().account_id, form.wanted())), 201


@blueprint.get("")
@requires("webhooks")
@documented(
    "List webhook endpoints, newest first",
    {200: Page[webhook_schemas.WebhookEndpoint]},
    query=queries.WebhookEndpointList,
)
def list_endpoints() -> Response:
    """With the URLs that jobs and batches name."""
    query = queries.read(queries.WebhookEndpointList)
    found = webhook_endpoints.list_page(in_own_account(), caller().account_id, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, webhook_render.endpoint))


@blueprint.get("/<endpoint_id>")
@requires("webhooks")
@documented("Get a webhook endpoint", {200: webhook_schemas.WebhookEndpoint})
def get(endpoint_id: str) -> Response:
    found = webhook_endpoints.get(in_own_account(), caller().account_id, endpoint_id)
    return jsonify(webhook_render.endpoint(found))


@blueprint.post("/<endpoint_id>")
@requires("webhooks")
@documented(
    "Update a webhook endpoint",
    {200: webhook_schemas.WebhookEndpoint},
    json=(webhook_forms.UpdateEndpoint,),
    refuses=(409,),
)
def update(endpoint_id: str) -> Response:
    """What is sent changes. Event types are the whole list; an empty `include` leaves results out."""
    form = forms.parse(webhook_forms.UpdateEndpoint, forms.json_object())
    updated = webhook_endpoints.update(in_own_account(), caller().account_id, endpoint_id, form.changes())
    return jsonify(webhook_render.endpoint(updated))


@blueprint.delete("/<endpoint_id>")
@requires("webhooks")
@documented("Delete a webhook endpoint", {200: webhook_schemas.DeletedWebhookEndpoint})
def delete(endpoint_id: str) -> Response:
    """Nothing is sent to it from now on. Its deliveries stay in the log."""
    webhook_endpoints.delete(in_own_account(), caller().account_id, endpoint_id)
    return jsonify({"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})


@blueprint.post("/<endpoint_id>/enable")
@requires("webhooks")
@documented("Enable a webhook endpoint", {200: webhook_schemas.WebhookEndpoint})
def enable(endpoint_id: str) -> Response:
    """It is told of events from now on; what failed meanwhile can be replayed."""
    enabled = webhook_endpoints.enable(in_own_account(), caller().account_id, endpoint_id)
    return jsonify(webhook_render.endpoint(enabled))


@blueprint.post("/<endpoint_id>/disable")
@requires("webhooks")
@documented("Disable a webhook endpoint", {200: webhook_schemas.WebhookEndpoint})
def disable(endpoint_id: str) -> Response:
    """It is told of nothing, and deliveries that wait fail."""
    disabled = webhook_endpoints.disable(in_own_account(), caller().account_id, endpoint_id)
    return jsonify(webhook_render.endpoint(disabled))


@blueprint.post("/<endpoint_id>/rotate_secret")
@requires("webhooks")
@documented(
    "Rotate a webhook endpoint's secret",
    {200: webhook_schemas.WebhookEndpointWithSecret},
    json=(webhook_forms.RotateEndpointSecret,),
    refuses=(409,),
)
def rotate_secret(endpoint_id: str) -> Response:
    """Makes a new secret. For the overlap, a day unless said otherwise, the one before signs too."""
    form = forms.parse(webhook_forms.RotateEndpointSecret, forms.json_object())
    return with_secret(webhook_rotation.of_endpoint(in_own_account(), caller().account_id, endpoint_id, form.overlap()))


@blueprint.post("/<endpoint_id>/test")
@requires("webhooks")
@documented(
    "Send a sample event",
    {202: webhook_schemas.WebhookDeliveryWithAttempts},
    json=(webhook_forms.SendSample,),
    refuses=(409,),
)
def test(endpoint_id: str) -> tuple[Response, int]:
    """Sends the endpoint a sample, whose data says `"sample": true`. GET its delivery to see how that went."""
    form = forms.parse(webhook_forms.SendSample, forms.json_object())
    sent = webhook_samples.send(in_own_account(), caller().account_id, endpoint_id, form.event_type)
    found, attempts = webhook_deliveries.get(in_own_account(), caller().account_id, sent)
    return jsonify(webhook_render.with_attempts(found, attempts)), 202


def with_secret(new: NewSecret) -> Response:
    """The answers that show a secret."""
    shown: webhook_schemas.WebhookEndpointWithSecret = {
        **webhook_render.endpoint(new.endpoint),
        "signing_secret": new.secret,
    }
    response = jsonify(shown)
    response.headers["Cache-Control"] = "no-store"
    return response
