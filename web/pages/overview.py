"""/ and /account: what Batchyard is, and how the account of who has logged in stands."""

from uuid import UUID

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response

from common import keys, limits
from common.settings import settings
from web.pages import visitor
from web.pages.visitor import signed_in

blueprint = Blueprint("overview", __name__)


@blueprint.get("/")
def welcome() -> str | Response:
    if visitor.person_or_none() is not None:
        return redirect(url_for("pages.overview.page"), 303)
    return render_template("welcome.html")


@blueprint.get("/account")
@signed_in()
def page() -> str:
    person = visitor.person()
    account = person.caller
    return render_template(
        "overview.html",
        account=account,
        taken=limits.taken(account) if account is not None and person.may("usage") else None,
        has_keys=account is not None and person.may("keys") and _has_keys(account.account_id),
        address=settings().public_url,
    )


def _has_keys(account_id: UUID) -> bool:
    return bool(keys.list_page(visitor.person().actor, account_id, None, 1))
