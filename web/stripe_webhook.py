"""/stripe/webhook: where Stripe posts its events."""

from flask import Blueprint, Response, jsonify, request

from common import stripe_events
from web import forms

blueprint = Blueprint("stripe", __name__, url_prefix="/stripe")

# An event holds one object, of which Stripe shows at most ten lines of anything.
MAX_EVENT_BYTES = 2**20


@blueprint.post("/webhook")
def receive() -> Response:
    """The signature is the only credential, and is of the bytes that came. Nobody is counted here: whoever sends too
    much would shut Stripe out as well, and a wrong signature costs no look at the database."""
    body = forms.body(MAX_EVENT_BYTES)
    applied = stripe_events.receive(body, request.headers.get("Stripe-Signature", ""))
    return jsonify({"received": True, "repeated": not applied})
