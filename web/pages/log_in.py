"""/log-in and /log-out: a session begins and ends."""

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common import sessions
from common.errors import BatchyardError
from common.sessions import NewSession
from web import rate_limits
from web.pages import cookies, visitor
from web.pages.form import Form

blueprint = Blueprint("log_in", __name__)

FIELDS = ("email", "password")


@blueprint.get("/log-in")
def page() -> str | Response:
    back = visitor.own_path(request.args.get("next"))
    if visitor.person_or_none() is not None:
        return redirect(back or url_for("pages.overview.page"), 303)
    return render_template("log_in.html", form=Form(*FIELDS), next=back)


@blueprint.post("/log-in")
def send() -> Response | tuple[str, int]:
    form = Form.sent(*FIELDS)
    back = visitor.own_path(request.form.get("next"))
    try:
        begun = sessions.log_in(form["email"], form["password"], rate_limits.address())
    except BatchyardError as error:
        return form.again(error, "log_in.html", next=back)
    return logged_in(begun, back)


def logged_in(begun: NewSession, back: str | None = None) -> Response:
    """The answer that begins a session in this browser, and leads on."""
    answer = redirect(back or url_for("pages.overview.page"), 303)
    cookies.SESSION.keep(answer, begun.token)
    return answer


@blueprint.post("/log-out")
def log_out() -> Response:
    if (person := visitor.person_or_none()) is not None:
        sessions.log_out(person.session_id)
    answer = redirect(url_for("pages.log_in.page"), 303)
    cookies.SESSION.forget(answer)
    cookies.NOTE.forget(answer)
    return answer
