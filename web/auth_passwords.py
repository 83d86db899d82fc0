"""/auth/password: changing it, and resetting one that was forgotten."""

from flask import Blueprint, Response

from common import password_reset, passwords
from web import auth_forms, auth_render, auth_schemas, forms
from web.auth import for_anybody, for_people, person
from web.documented import documented
from web.rate_limits import address

blueprint = Blueprint("auth-passwords", __name__, url_prefix="/auth/password")


@blueprint.post("")
@for_people()
@documented("Change one's password", {200: auth_schemas.Tokens}, json=(auth_forms.ChangePassword,))
def change() -> Response:
    """Ends every session, and begins the one that is answered with."""
    form = forms.parse(auth_forms.ChangePassword, forms.json_object())
    return auth_render.tokens(passwords.change(person(), form.password, form.new_password, address(), page=False))


@blueprint.post("/forgot")
@for_anybody()
@documented("Ask for a link to reset a password", {202: auth_schemas.Mailed}, json=(auth_forms.ForgotPassword,))
def forgot() -> tuple[Response, int]:
    """Mails the link to the user with this address. The answer is the same where there is none."""
    form = forms.parse(auth_forms.ForgotPassword, forms.json_object())
    password_reset.ask(form.email, address())
    return auth_render.mailed(form.email)


@blueprint.post("/reset")
@for_anybody()
@documented("Reset a password", {200: auth_schemas.Tokens}, json=(auth_forms.ResetPassword,))
def reset() -> Response:
    """With the token of the mailed link. Ends every session, and begins the one that is answered with."""
    form = forms.parse(auth_forms.ResetPassword, forms.json_object())
    return auth_render.tokens(password_reset.reset(form.token, form.password, address(), page=False))
