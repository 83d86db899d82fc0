"""/forgotten-password and /reset-password: back in by a link to one's address; and another password while logged in."""

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common import password_reset, passwords
from common.errors import BatchyardError
from web import rate_limits
from web.pages import log_in, note, visitor
from web.pages.form import Form, no_good_link
from web.pages.note import Note
from web.pages.visitor import signed_in

blueprint = Blueprint("password", __name__)


@blueprint.get("/forgotten-password")
def page() -> str:
    return render_template("forgotten_password.html", form=Form("email"))


@blueprint.post("/forgotten-password")
def ask() -> Response | tuple[str, int]:
    form = Form.sent("email")
    try:
        password_reset.ask(form["email"], rate_limits.address())
    except BatchyardError as error:
        return form.again(error, "forgotten_password.html")
    return redirect(url_for("pages.mail_sent.page", about="password"), 303)


@blueprint.get("/reset-password")
def reset_page() -> str:
    return render_template("reset_password.html", form=Form("password"), token=request.args.get("token", ""))


@blueprint.post("/reset-password")
def reset() -> Response | tuple[str, int]:
    form = Form.sent("password")
    token = request.form.get("token", "")
    try:
        begun = password_reset.reset(token, form["password"], rate_limits.address())
    except BatchyardError as error:
        if error.param == "token":
            return no_good_link(error)
        return form.again(error, "reset_password.html", token=token)
    return note.leave(log_in.logged_in(begun), Note("Your password is the new one, and you are logged in."))


@blueprint.get("/account/settings/password")
@signed_in()
def change_page() -> str:
    return render_template("change_password.html", form=Form("password", "new_password"))


@blueprint.post("/account/settings/password")
@signed_in()
def change() -> Response | tuple[str, int]:
    form = Form.sent("password", "new_password")
    try:
        begun = passwords.change(visitor.person(), form["password"], form["new_password"], rate_limits.address())
    except BatchyardError as error:
        return form.again(error, "change_password.html")
    answer = log_in.logged_in(begun, url_for("pages.account_settings.page"))
    return note.leave(answer, Note("Your password is changed. You are logged in here, and nowhere else."))
