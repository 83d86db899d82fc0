"""/v1/api_keys: the keys of the caller's own account."""

from datetime import timedelta

from flask import Blueprint, Response, jsonify

from common import keys
from web import forms, render
from web.acting import own_key
from web.auth import caller, requires

blueprint = Blueprint("api_keys", __name__, url_prefix="/api_keys")


@blueprint.post("")
@requires("keys")
def create() -> tuple[Response, int]:
    """Makes a key. This answer alone has the key itself."""
    form = forms.parse(forms.CreateKey, forms.json_object())
    return made(keys.issue(own_key(), caller().account_id, form.name, form.scopes, form.expiry()))


@blueprint.get("")
@requires("keys")
def list_keys() -> Response:
    limit, after = forms.page()
    return jsonify(render.page(keys.list_page(own_key(), caller().account_id, after, limit + 1), limit, render.api_key))


@blueprint.get("/<key_id>")
@requires("keys")
def get(key_id: str) -> Response:
    return jsonify(render.api_key(keys.get(own_key(), caller().account_id, key_id)))


@blueprint.delete("/<key_id>")
@requires("keys")
def revoke(key_id: str) -> Response:
    """Refused from the next request on. The key stays in the list, as revoked."""
    return jsonify(render.api_key(keys.revoke(own_key(), caller().account_id, key_id)))


@blueprint.post("/<key_id>/rotate")
@requires("keys")
def rotate(key_id: str) -> tuple[Response, int]:
    """Makes a key that takes over from this one, which lives on for the overlap."""
    form = forms.parse(forms.RotateKey, forms.json_object())
    overlap = timedelta(seconds=form.overlap_seconds)
    return made(keys.rotate(own_key(), caller().account_id, key_id, overlap, form.expiry()))


def made(new: keys.NewKey) -> tuple[Response, int]:
    """The one answer that shows a key."""
    response = jsonify(render.api_key(new.key) | {"key": new.secret})
    response.headers["Cache-Control"] = "no-store"
    return response, 201
