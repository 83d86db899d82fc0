"""/v1/webhook_secret: the secret of the caller's account, which signs for URLs that jobs and batches name."""

from flask import Blueprint, Response, jsonify

from common import webhook_rotation
from web import forms, webhook_forms, webhook_schemas
from web.acting import in_own_account
from web.auth import caller, requires
from web.documented import documented
from web.render import unix

blueprint = Blueprint("webhook_secret", __name__, url_prefix="/webhook_secret")


@blueprint.post("/rotate")
@requires("webhooks")
@documented(
    "Rotate the account's webhook secret",
    {200: webhook_schemas.WebhookSecret},
    json=(webhook_forms.RotateSecret,),
    refuses=(409,),
)
def rotate() -> Response:
    """Makes a new secret, or the first. For the overlap, a day unless said otherwise, the one before signs too."""
    form = forms.parse(webhook_forms.RotateSecret, forms.json_object())
    made = webhook_rotation.of_account(in_own_account(), caller().account_id, form.overlap())
    shown: webhook_schemas.WebhookSecret = {
        "object": "webhook_secret",
        "signing_secret": made.secret,
        "previous_secret_expires_at": unix(made.previous_secret_until),
        "created_at": unix(made.created_at),
    }
    response = jsonify(shown)
    response.headers["Cache-Control"] = "no-store"
    return response
