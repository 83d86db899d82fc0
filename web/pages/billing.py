"""/account/billing: the account's plan, the plans that there are to buy, and the way to Stripe's pages."""

from urllib.parse import urlsplit

from flask import Blueprint, g, redirect, render_template, url_for
from werkzeug.wrappers import Response

from common import billing, plans
from common.entitlement import Standing
from common.errors import BatchyardError
from common.settings import settings
from web.pages import note, visitor
from web.pages.form import Form
from web.pages.note import Note
from web.pages.visitor import signed_in

blueprint = Blueprint("billing", __name__, url_prefix="/account/billing")

STRIPE_PAGES = ("https://checkout.stripe.com", "https://billing.stripe.com")


@blueprint.get("")
@signed_in("billing")
def page() -> str:
    return render_template("billing.html", form=Form(), **_shown())


@blueprint.post("/checkout")
@signed_in("billing")
def checkout() -> Response | str | tuple[str, int]:
    form = Form.sent("plan")
    try:
        address = billing.checkout(visitor.person().actor, visitor.caller().account_id, form["plan"])
    except BatchyardError as error:
        return _again(error)
    return lead_to(address)


@blueprint.post("/plan")
@signed_in("billing")
def change_plan() -> Response | tuple[str, int]:
    form = Form.sent("plan")
    try:
        billing.change_plan(visitor.person().actor, visitor.caller().account_id, form["plan"])
    except BatchyardError as error:
        return _again(error)
    return note.leave(redirect(url_for(".page"), 303), Note("Your plan changes as soon as Stripe has confirmed it."))


@blueprint.post("/portal")
@signed_in("billing")
def portal() -> Response | str | tuple[str, int]:
    try:
        address = billing.portal(visitor.person().actor, visitor.caller().account_id)
    except BatchyardError as error:
        return _again(error)
    return lead_to(address)


def _again(error: BatchyardError) -> tuple[str, int]:
    return Form().again(error, "billing.html", **_shown())


def lead_to(address: str) -> Response | str:
    """To a page of Stripe's: by itself where this page's policy lets a form lead there, which it cannot for a domain of
    the operator's own at Stripe; else by a link."""
    parts = urlsplit(address)
    if f"{parts.scheme}://{parts.netloc}" in _stripe_pages():
        return redirect(address, 303)
    return render_template("onward.html", address=address)


def _stripe_pages() -> tuple[str, ...]:
    standin = settings().stripe_api_base
    return STRIPE_PAGES if standin is None else ("://".join(urlsplit(standin)[:2]),)


def _shown() -> dict[str, object]:
    # A form's redirect is held to the policy of the page that it stands in.
    g.form_targets = _stripe_pages()
    found = billing.status(visitor.caller().account_id)
    return {
        "status": found,
        "standing": found.standing,
        "subscribed": _is_subscribed(found.standing),
        "own": plans.get(found.plan),
        "limits": visitor.caller().limits,
        "sold": plans.sold().values() if found.enabled else [],
    }


def _is_subscribed(standing: Standing) -> bool:
    """Whether there is a subscription whose plan can be changed."""
    return standing.subscription is not None and not standing.subscription.ended and standing.state != "ended"
