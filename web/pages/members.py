"""/account/members: who is in the account, in which role, and who is invited."""

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common import invitations, members, roles
from common.errors import BatchyardError, InvalidRequest
from common.roles import Role
from web.pages import note, visitor
from web.pages.form import Form
from web.pages.note import Note
from web.pages.visitor import signed_in

blueprint = Blueprint("members", __name__, url_prefix="/account/members")

PAGE_MEMBERS = 100
# Among those that are over there may be some that are pending, of which there are 100 at most.
MAX_INVITATIONS = 1_000
# What common/roles.py gives them, as people say it.
ROLES = {
    "owner": "Owner: everything, members too",
    "developer": "Developer: keys, jobs, webhooks, usage",
    "billing": "Billing: plan, billing, usage",
}


@blueprint.get("")
@signed_in("members")
def page() -> str:
    return render_template("members.html", form=Form("email"), **_shown())


@blueprint.post("/invitations")
@signed_in("members")
def invite() -> Response | tuple[str, int]:
    form = Form.sent("email", "role")
    person = visitor.person()
    try:
        made = invitations.make(
            person.actor, visitor.caller().account_id, form["email"], _role(form["role"]), person.email
        )
    except BatchyardError as error:
        return form.again(error, "members.html", **_shown())
    return _done(f"We have mailed an invitation to {made.email}.")


@blueprint.post("/invitations/<invitation_id>/revoke")
@signed_in("members")
def revoke(invitation_id: str) -> Response:
    revoked = invitations.revoke(visitor.person().actor, visitor.caller().account_id, invitation_id)
    return _done(f"The invitation of {revoked.email} is taken back.")


@blueprint.post("/<user_id>/role")
@signed_in("members")
def change_role(user_id: str) -> Response | tuple[str, int]:
    form = Form.sent("role")
    try:
        role = _role(form["role"])
        changed = members.set_role(visitor.person().actor, visitor.caller().account_id, user_id, role)
    except BatchyardError as error:
        return _again(error)
    return _done(f"{changed.email} now has the role {changed.role}.")


@blueprint.post("/<user_id>/remove")
@signed_in("members")
def remove(user_id: str) -> Response | tuple[str, int]:
    try:
        removed = members.remove(visitor.person().actor, visitor.caller().account_id, user_id)
    except BatchyardError as error:
        return _again(error)
    if removed.user_id == visitor.person().user_id:
        return note.leave(redirect(url_for("pages.overview.page"), 303), Note("You have left the account."))
    return _done(f"{removed.email} is no longer in the account.")


def _role(sent: str) -> Role:
    for role in roles.ROLES:
        if sent == role:
            return role
    raise InvalidRequest("Choose one of the roles.", param="role")


def _done(text: str) -> Response:
    return note.leave(redirect(url_for(".page"), 303), Note(text))


def _again(error: BatchyardError) -> tuple[str, int]:
    """The page with what could not be done to a member, for which there is no field."""
    return Form("email").again(error, "members.html", **_shown())


def _shown() -> dict[str, object]:
    actor, account_id = visitor.person().actor, visitor.caller().account_id
    found = members.list_page(actor, account_id, request.args.get("after"), PAGE_MEMBERS + 1)
    pending = invitations.list_page(actor, account_id, None, MAX_INVITATIONS)
    return {
        "members": found[:PAGE_MEMBERS],
        "older": found[PAGE_MEMBERS - 1].shown_id if len(found) > PAGE_MEMBERS else None,
        "invitations": [invitation for invitation in pending if invitation.status == "pending"],
        "roles": ROLES,
    }
