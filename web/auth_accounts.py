"""/auth/me and /auth/accounts: who a person is, and the accounts that they may work in."""

from flask import Blueprint, Response, jsonify

from common import access_tokens, ids, sessions
from web import auth_render, auth_schemas
from web.auth import for_people, person
from web.documented import documented

blueprint = Blueprint("auth-accounts", __name__, url_prefix="/auth")


@blueprint.get("/me")
@for_people()
@documented("Get who one is", {200: auth_schemas.Person})
def me() -> Response:
    """And what one may do in the account that one works in."""
    return jsonify(auth_render.person(person()))


@blueprint.get("/accounts")
@for_people()
@documented("List one's accounts", {200: auth_schemas.OwnAccounts})
def list_accounts() -> Response:
    data = [auth_render.account(found, person().account_id) for found in person().accounts]
    shown: auth_schemas.OwnAccounts = {"object": "list", "data": data}
    return jsonify(shown)


@blueprint.post("/accounts/<account_id>/choose")
@for_people()
@documented("Choose the account to work in", {200: auth_schemas.AccessToken}, refuses=(409,))
def choose(account_id: str) -> Response:
    """Answers with an access token for it; those of the account before are over, the refresh token is not."""
    found = ids.parse("acct_", account_id)
    session_id = sessions.choose_account(person(), found)
    return auth_render.access_token(access_tokens.issue(session_id, found))
