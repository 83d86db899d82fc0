"""/account/settings/email and /confirm-email: another address, proven by a link to it."""

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common import email_change
from common.errors import BatchyardError
from web import rate_limits
from web.pages import note, visitor
from web.pages.form import Form, no_good_link
from web.pages.note import Note
from web.pages.visitor import signed_in

blueprint = Blueprint("email", __name__)

FIELDS = ("email", "password")
CONFIRM = {
    "title": "Confirm your new address",
    "text": "From then on you log in with this address, and no longer with the old one.",
    "button": "Use this address",
}


@blueprint.get("/account/settings/email")
@signed_in()
def page() -> str:
    return render_template("change_email.html", form=Form(*FIELDS))


@blueprint.post("/account/settings/email")
@signed_in()
def ask() -> Response | tuple[str, int]:
    form = Form.sent(*FIELDS)
    try:
        email_change.ask(visitor.person(), form["password"], form["email"], rate_limits.address())
    except BatchyardError as error:
        return form.again(error, "change_email.html")
    return redirect(url_for("pages.mail_sent.page", about="email"), 303)


@blueprint.get("/confirm-email")
def confirm_page() -> str:
    return render_template("confirm.html", form=Form(), token=request.args.get("token", ""), **CONFIRM)


@blueprint.post("/confirm-email")
def confirm() -> Response | tuple[str, int]:
    try:
        email_change.confirm(request.form.get("token", ""))
    except BatchyardError as error:
        return no_good_link(error)
    answer = redirect(url_for("pages.log_in.page", next=url_for("pages.account_settings.page")), 303)
    return note.leave(answer, Note("Your address is changed. Log in with the new one from now on."))
