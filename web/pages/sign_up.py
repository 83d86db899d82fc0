"""/sign-up and /verify-email: from an address to an account."""

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common import email_verification, sign_up
from common.errors import BatchyardError
from web import rate_limits
from web.pages import note
from web.pages.form import Form, no_good_link
from web.pages.note import Note

blueprint = Blueprint("sign_up", __name__)

FIELDS = ("email", "password", "name")
CONFIRM = {
    "title": "Confirm your address",
    "text": "One more click, and your account is there.",
    "button": "Confirm my address",
}


@blueprint.get("/sign-up")
def page() -> str:
    return render_template("sign_up.html", form=Form(*FIELDS))


@blueprint.post("/sign-up")
def send() -> Response | tuple[str, int]:
    form = Form.sent(*FIELDS)
    try:
        sign_up.sign_up(form["email"], form["password"], form["name"], rate_limits.address())
    except BatchyardError as error:
        return form.again(error, "sign_up.html")
    return redirect(url_for("pages.mail_sent.page", about="sign-up"), 303)


@blueprint.get("/verify-email")
def confirm_page() -> str:
    return render_template("confirm.html", form=Form(), token=request.args.get("token", ""), **CONFIRM)


@blueprint.post("/verify-email")
def confirm() -> Response | tuple[str, int]:
    try:
        email_verification.verify(request.form.get("token", ""))
    except BatchyardError as error:
        return no_good_link(error)
    answer = redirect(url_for("pages.log_in.page"), 303)
    return note.leave(answer, Note("Your address is confirmed. Log in, and make your first API key."))
