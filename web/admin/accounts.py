"""/v1/admin/accounts: every account, and its keys."""

from uuid import UUID

from flask import Blueprint, Response, jsonify

from common import accounts, ids, keys
from web import account_render, account_schemas, api_keys, forms, queries, render
from web.acting import operator
from web.admin import forms as admin_forms
from web.admin import render as admin_render
from web.admin import schemas
from web.auth import requires
from web.documented import documented
from web.schemas import Page

blueprint = Blueprint("admin-accounts", __name__, url_prefix="/admin/accounts")


@blueprint.post("")
@requires("admin")
@documented("Create an account", {201: schemas.Account}, json=(admin_forms.CreateAccount,))
def create() -> tuple[Response, int]:
    form = forms.parse(admin_forms.CreateAccount, forms.json_object())
    return jsonify(admin_render.account(accounts.create(form.name, form.plan, operator()))), 201


@blueprint.get("")
@requires("admin")
@documented("List accounts, newest first", {200: Page[schemas.Account]}, query=queries.AccountList)
def list_accounts() -> Response:
    query = queries.read(queries.AccountList)
    found = accounts.list_page(query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, admin_render.account))


@blueprint.get("/<account_id>")
@requires("admin")
@documented("Get an account", {200: schemas.Account})
def get(account_id: str) -> Response:
    return jsonify(admin_render.account(accounts.get(_id(account_id))))


@blueprint.patch("/<account_id>")
@requires("admin")
@documented("Change an account", {200: schemas.Account}, json=(admin_forms.ChangeAccount,))
def change(account_id: str) -> Response:
    """Name, plan, limits of its own and caps: what is sent changes."""
    form = forms.parse(admin_forms.ChangeAccount, forms.json_object())
    return jsonify(admin_render.account(accounts.change(operator(), _id(account_id), form.changes())))


@blueprint.post("/<account_id>/suspend")
@requires("admin")
@documented("Suspend an account", {200: schemas.Account}, json=(admin_forms.Suspend,))
def suspend(account_id: str) -> Response:
    """Its keys are refused, and its batches paused."""
    form = forms.parse(admin_forms.Suspend, forms.json_object())
    return jsonify(admin_render.account(accounts.suspend(operator(), _id(account_id), form.reason)))


@blueprint.post("/<account_id>/resume")
@requires("admin")
@documented("Resume an account", {200: schemas.Account})
def resume(account_id: str) -> Response:
    """Its keys are good again, and its batches go on."""
    return jsonify(admin_render.account(accounts.resume(operator(), _id(account_id))))


@blueprint.post("/<account_id>/api_keys")
@requires("admin")
@documented("Create a key of an account", {201: account_schemas.NewApiKey}, json=(forms.CreateKey,))
def create_key(account_id: str) -> tuple[Response, int]:
    """Makes a key of the account. This answer alone has the key itself."""
    form = forms.parse(forms.CreateKey, forms.json_object())
    account = accounts.get(_id(account_id))
    return api_keys.made(keys.issue(operator(), account.id, form.name, form.scopes, form.expiry()))


@blueprint.get("/<account_id>/api_keys")
@requires("admin")
@documented("List the keys of an account, newest first", {200: Page[account_schemas.ApiKey]}, query=queries.KeyList)
def list_keys(account_id: str) -> Response:
    query = queries.read(queries.KeyList)
    found = keys.list_page(operator(), accounts.get(_id(account_id)).id, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, account_render.api_key))


@blueprint.delete("/<account_id>/api_keys/<key_id>")
@requires("admin")
@documented("Revoke a key of an account", {200: account_schemas.ApiKey})
def revoke_key(account_id: str, key_id: str) -> Response:
    """Refused from the next request on. The key stays in the list, as revoked."""
    account = accounts.get(_id(account_id))
    return jsonify(account_render.api_key(keys.revoke(operator(), account.id, key_id)))


def _id(shown: str) -> UUID | None:
    return ids.parse("acct_", shown)
