"""/auth/email: changing one's address."""

from flask import Blueprint, Response

from common import email_change
from web import auth_forms, auth_render, auth_schemas, forms
from web.auth import for_anybody, for_people, person
from web.documented import documented
from web.rate_limits import address

blueprint = Blueprint("auth-email", __name__, url_prefix="/auth/email")


@blueprint.post("")
@for_people()
@documented("Ask for another address", {202: auth_schemas.Mailed}, json=(auth_forms.ChangeEmail,))
def ask() -> tuple[Response, int]:
    """Mails a link to the new address. The answer is the same for one that is a user's: they are told by mail."""
    form = forms.parse(auth_forms.ChangeEmail, forms.json_object())
    email_change.ask(person(), form.password, form.email, address())
    return auth_render.mailed(form.email)


@blueprint.post("/confirm")
@for_anybody()
@documented("Confirm another address", {200: auth_schemas.Done}, json=(auth_forms.WithToken,))
def confirm() -> Response:
    """With the token of the mailed link. The old address is told."""
    form = forms.parse(auth_forms.WithToken, forms.json_object())
    email_change.confirm(form.token)
    return auth_render.done()
