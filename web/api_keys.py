"""/v1/api_keys: the keys of the caller's own account."""

from datetime import timedelta

from flask import Blueprint, Response, jsonify

from common import keys
from web import account_render, account_schemas, forms, queries, render
from web.acting import in_own_account
from web.auth import caller, requires
from web.documented import documented
from web.schemas import Page

blueprint = Blueprint("api_keys", __name__, url_prefix="/api_keys")


@blueprint.post("")
@requires("keys")
@documented("Create a key", {201: account_schemas.NewApiKey}, json=(forms.CreateKey,))
def create() -> tuple[Response, int]:
    """Makes a key. This answer alone has the key itself."""
    form = forms.parse(forms.CreateKey, forms.json_object())
    return made(keys.issue(in_own_account(), caller().account_id, form.name, form.scopes, form.expiry()))


@blueprint.get("")
@requires("keys")
@documented("List keys, newest first", {200: Page[account_schemas.ApiKey]}, query=queries.KeyList)
def list_keys() -> Response:
    query = queries.read(queries.KeyList)
    found = keys.list_page(in_own_account(), caller().account_id, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, account_render.api_key))


@blueprint.get("/<key_id>")
@requires("keys")
@documented("Get a key", {200: account_schemas.ApiKey})
def get(key_id: str) -> Response:
    return jsonify(account_render.api_key(keys.get(in_own_account(), caller().account_id, key_id)))


@blueprint.delete("/<key_id>")
@requires("keys")
@documented("Revoke a key", {200: account_schemas.ApiKey})
def revoke(key_id: str) -> Response:
    """Refused from the next request on. The key stays in the list, as revoked."""
    return jsonify(account_render.api_key(keys.revoke(in_own_account(), caller().account_id, key_id)))


@blueprint.post("/<key_id>/rotate")
@requires("keys")
@documented("Rotate a key", {201: account_schemas.NewApiKey}, json=(forms.RotateKey,), refuses=(409,))
def rotate(key_id: str) -> tuple[Response, int]:
    """Makes a key that takes over from this one, which lives on for the overlap."""
    form = forms.parse(forms.RotateKey, forms.json_object())
    overlap = timedelta(seconds=form.overlap_seconds)
    return made(keys.rotate(in_own_account(), caller().account_id, key_id, overlap, form.expiry()))


def made(new: keys.NewKey) -> tuple[Response, int]:
    """The one answer that shows a key."""
    shown: account_schemas.NewApiKey = {**account_render.api_key(new.key), "key": new.secret}
    response = jsonify(shown)
    response.headers["Cache-Control"] = "no-store"
    return response, 201
