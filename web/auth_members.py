"""/auth/members: the people of the account that one works in."""

from flask import Blueprint, Response, jsonify

from common import members
from web import auth_forms, auth_render, auth_schemas, forms, queries, render
from web.acting import in_own_account
from web.auth import caller, for_people, person
from web.documented import documented
from web.schemas import Page

blueprint = Blueprint("auth-members", __name__, url_prefix="/auth/members")


@blueprint.get("")
@for_people()
@documented("List members", {200: Page[auth_schemas.Member]}, query=queries.MemberList)
def list_members() -> Response:
    """Any member may see who the others are."""
    query = queries.read(queries.MemberList)
    actor, account_id = person().actor, person().working_in
    found = members.list_page(actor, account_id, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, auth_render.member))


@blueprint.patch("/<user_id>")
@for_people("members")
@documented("Give a member another role", {200: auth_schemas.Member}, json=(auth_forms.ChangeMember,), refuses=(409,))
def change(user_id: str) -> Response:
    """From the member's next request on. An account keeps at least one owner."""
    form = forms.parse(auth_forms.ChangeMember, forms.json_object())
    changed = members.set_role(in_own_account(), caller().account_id, user_id, form.role)
    return jsonify(auth_render.member(changed))


@blueprint.delete("/<user_id>")
@for_people()
@documented("Remove a member", {200: auth_schemas.Member}, refuses=(409,))
def remove(user_id: str) -> Response:
    """Owners remove others, and anybody themselves. The keys that a member made are the account's, and stay."""
    if user_id != person().shown_id:
        person().calling("members")
    removed = members.remove(person().actor, person().working_in, user_id)
    return jsonify(auth_render.member(removed))
