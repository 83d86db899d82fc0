"""/auth/log-in, /auth/refresh, /auth/log-out and /auth/sessions: where a person is logged in."""

from flask import Blueprint, Response, jsonify

from common import sessions
from web import auth_forms, auth_render, auth_schemas, forms
from web.auth import for_anybody, for_people, person
from web.documented import documented
from web.rate_limits import address

blueprint = Blueprint("auth-sessions", __name__, url_prefix="/auth")


@blueprint.post("/log-in")
@for_anybody()
@documented("Log in", {200: auth_schemas.Tokens}, json=(auth_forms.LogIn,), refuses=(401,))
def log_in() -> Response:
    """Begins a session. The access token is good for a quarter of an hour, and the refresh token for the next ones."""
    form = forms.parse(auth_forms.LogIn, forms.json_object())
    return auth_render.tokens(sessions.log_in(form.email, form.password, address(), page=False))


@blueprint.post("/refresh")
@for_anybody()
@documented("Take new tokens", {200: auth_schemas.Tokens}, json=(auth_forms.Refresh,), refuses=(401,))
def refresh() -> Response:
    """For a refresh token, which is used up by this. One that comes again was stolen, from you or by you: its session
    ends."""
    form = forms.parse(auth_forms.Refresh, forms.json_object())
    return auth_render.tokens(sessions.refresh(form.refresh_token))


@blueprint.post("/log-out")
@for_people()
@documented("Log out", {200: auth_schemas.Done})
def log_out() -> Response:
    """Ends the session of the access token."""
    sessions.log_out(person().session_id)
    return auth_render.done()


@blueprint.post("/log-out-everywhere")
@for_people()
@documented("Log out everywhere", {200: auth_schemas.Done})
def log_out_everywhere() -> Response:
    """Ends every session of the person, those of pages too."""
    sessions.log_out_everywhere(person().user_id)
    return auth_render.done()


@blueprint.get("/sessions")
@for_people()
@documented("List where one is logged in", {200: auth_schemas.Sessions})
def list_sessions() -> Response:
    found = sessions.list_of(person().user_id)
    data = [auth_render.session(session, person().session_id) for session in found]
    shown: auth_schemas.Sessions = {"object": "list", "data": data}
    return jsonify(shown)


@blueprint.delete("/sessions/<session_id>")
@for_people()
@documented("End a session", {200: auth_schemas.Done})
def end(session_id: str) -> Response:
    sessions.end(person().user_id, session_id)
    return auth_render.done()
