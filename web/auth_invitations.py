"""/auth/invitations: who is invited to the account, and how they come in."""

from flask import Blueprint, Response, jsonify

from common import access_tokens, invitations, sessions
from web import auth_forms, auth_render, auth_schemas, forms, queries, render
from web.acting import in_own_account
from web.auth import caller, for_anybody, for_people, person
from web.documented import documented
from web.rate_limits import address
from web.schemas import Page

blueprint = Blueprint("auth-invitations", __name__, url_prefix="/auth/invitations")


@blueprint.post("")
@for_people("members")
@documented("Invite somebody", {201: auth_schemas.Invitation}, json=(auth_forms.Invite,), refuses=(409,))
def create() -> tuple[Response, int]:
    """Mails them a link, which is good for a week; an earlier one to the address is no longer."""
    form = forms.parse(auth_forms.Invite, forms.json_object())
    made = invitations.make(in_own_account(), caller().account_id, form.email, form.role, person().email)
    return jsonify(auth_render.invitation(made)), 201


@blueprint.get("")
@for_people("members")
@documented("List invitations, newest first", {200: Page[auth_schemas.Invitation]}, query=queries.InvitationList)
def list_invitations() -> Response:
    query = queries.read(queries.InvitationList)
    found = invitations.list_page(in_own_account(), caller().account_id, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, auth_render.invitation))


@blueprint.delete("/<invitation_id>")
@for_people("members")
@documented("Revoke an invitation", {200: auth_schemas.Invitation}, refuses=(409,))
def revoke(invitation_id: str) -> Response:
    """Its link is no longer good."""
    revoked = invitations.revoke(in_own_account(), caller().account_id, invitation_id)
    return jsonify(auth_render.invitation(revoked))


@blueprint.post("/offered")
@for_anybody()
@documented("Get what an invitation offers", {200: auth_schemas.Offer}, json=(auth_forms.WithToken,))
def offered() -> Response:
    """With the token of the mailed link."""
    form = forms.parse(auth_forms.WithToken, forms.json_object())
    return jsonify(auth_render.offer(invitations.offered(form.token)))


@blueprint.post("/accept")
@for_people()
@documented(
    "Accept an invitation", {200: auth_schemas.AccessToken | auth_schemas.Done}, json=(auth_forms.WithToken,)
)  # fmt: skip
def accept() -> Response:
    """As the user with the address that was invited. Answers with an access token for the account, which is chosen; who
    comes by an identity provider has no session to choose it in, and names it with each request."""
    form = forms.parse(auth_forms.WithToken, forms.json_object())
    account_id = invitations.accept(person(), form.token)
    if person().session_id is None:
        return auth_render.done()
    session_id = sessions.choose_account(person(), account_id)
    return auth_render.access_token(access_tokens.issue(session_id, account_id))


@blueprint.post("/sign-up")
@for_anybody()
@documented(
    "Accept an invitation as a new user", {200: auth_schemas.Tokens}, json=(auth_forms.ResetPassword,), refuses=(409,)
)
def accept_as_new() -> Response:
    """For an address that is no user's yet: it is one from now on, with this password."""
    form = forms.parse(auth_forms.ResetPassword, forms.json_object())
    return auth_render.tokens(invitations.accept_as_new(form.token, form.password, address(), page=False))
