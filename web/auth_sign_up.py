"""/auth/sign-up and /auth/verify-email: how a person and their account come to be."""

from flask import Blueprint, Response

from common import email_verification, sign_up
from web import auth_forms, auth_render, auth_schemas, forms
from web.auth import for_anybody
from web.documented import documented
from web.rate_limits import address

blueprint = Blueprint("auth-sign-up", __name__, url_prefix="/auth")


@blueprint.post("/sign-up")
@for_anybody()
@documented("Sign up", {202: auth_schemas.Mailed}, json=(auth_forms.SignUp,), refuses=(403,))
def create() -> tuple[Response, int]:
    """Mails a link that opens the account, on the free plan. The answer is the same for an address that has one: its
    owner is told by mail."""
    form = forms.parse(auth_forms.SignUp, forms.json_object())
    sign_up.sign_up(form.email, form.password, form.account_name, address())
    return auth_render.mailed(form.email)


@blueprint.post("/verify-email")
@for_anybody()
@documented("Verify an address", {200: auth_schemas.Done}, json=(auth_forms.WithToken,))
def verify() -> Response:
    """With the token of the mailed link. From now on its user can log in."""
    form = forms.parse(auth_forms.WithToken, forms.json_object())
    email_verification.verify(form.token)
    return auth_render.done()
