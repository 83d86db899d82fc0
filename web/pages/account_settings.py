"""/account/settings: who one is, which account one looks at, and where one is logged in."""

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response

from common import ids, sessions
from common.errors import BatchyardError
from web.pages import cookies, note, visitor
from web.pages.form import Form
from web.pages.note import Note
from web.pages.visitor import signed_in

blueprint = Blueprint("account_settings", __name__, url_prefix="/account/settings")


@blueprint.get("")
@signed_in()
def page() -> str:
    return render_template("settings.html", form=Form(), **_shown())


@blueprint.post("/account")
@signed_in()
def choose_account() -> Response | tuple[str, int]:
    form = Form.sent("account_id")
    try:
        sessions.choose_account(visitor.person(), ids.parse("acct_", form["account_id"]))
    except BatchyardError as error:
        return form.again(error, "settings.html", **_shown())
    return redirect(url_for("pages.overview.page"), 303)


@blueprint.post("/sessions/<session_id>/end")
@signed_in()
def end_session(session_id: str) -> Response:
    sessions.end(visitor.person().user_id, session_id)
    return note.leave(redirect(url_for(".page"), 303), Note("That session is over."))


@blueprint.post("/log-out-everywhere")
@signed_in()
def log_out_everywhere() -> Response:
    sessions.log_out_everywhere(visitor.person().user_id)
    answer = redirect(url_for("pages.log_in.page"), 303)
    cookies.SESSION.forget(answer)
    return note.leave(answer, Note("You are logged out everywhere."))


def _shown() -> dict[str, object]:
    return {"sessions": sessions.list_of(visitor.person().user_id)}
