"""/accept-invitation: whoever has the link joins the account; somebody new chooses a password first."""

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common import invitations, sessions
from common.errors import BatchyardError
from web import rate_limits
from web.pages import log_in, note, visitor
from web.pages.form import Form, no_good_link
from web.pages.note import Note

blueprint = Blueprint("accept_invitation", __name__, url_prefix="/accept-invitation")


@blueprint.get("")
def page() -> str | tuple[str, int]:
    token = request.args.get("token", "")
    try:
        offer = invitations.offered(token)
    except BatchyardError as error:
        return no_good_link(error)
    return render_template("accept_invitation.html", form=Form("password"), offer=offer, token=token)


@blueprint.post("")
def accept() -> Response | tuple[str, int]:
    """By who has logged in with the address that was invited."""
    token = request.form.get("token", "")
    person = visitor.person_or_none()
    if person is None:
        back = url_for(".page", token=token)
        return redirect(url_for("pages.log_in.page", next=back), 303)
    try:
        account_id = invitations.accept(person, token)
    except BatchyardError as error:
        return no_good_link(error)
    # Should this be cut off, they choose the account in their settings.
    sessions.choose_account(person, account_id)
    return note.leave(redirect(url_for("pages.overview.page"), 303), Note("You are in the account."))


@blueprint.post("/new")
def accept_as_new() -> Response | tuple[str, int]:
    """By somebody without a user."""
    form = Form.sent("password")
    token = request.form.get("token", "")
    try:
        offer = invitations.offered(token)
    except BatchyardError as error:
        return no_good_link(error)
    try:
        begun = invitations.accept_as_new(token, form["password"], rate_limits.address())
    except BatchyardError as error:
        return form.again(error, "accept_invitation.html", offer=offer, token=token)
    return note.leave(log_in.logged_in(begun), Note("You are in the account."))
