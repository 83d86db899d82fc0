"""/v1/billing_portal/sessions, and what people do on the page of one.

Stripe's own portal only cancels subscriptions that have more than one price or a metered one; this one switches them as
well, the licensed price to the one chosen and the metered one to that of the same product.
"""

from local.stripe import clocks, customers, payments, portal_configurations, subscription_items, subscriptions
from local.stripe.call import Call
from local.stripe.checkout import address
from local.stripe.errors import invalid
from local.stripe.forms import Params
from local.stripe.ids import new_id, random_digits
from local.stripe.store import Object, Store

KIND = "billing_portal.session"
PAGE = "/p/session/"
SECRET_DIGITS = 40
# Ours: what the page's address has instead of the id.
SECRET = "_secret"
FLOWS = ("payment_method_update", "subscription_cancel", "subscription_update", "subscription_update_confirm")


def create(call: Call) -> Object:
    params = call.params
    customer = call.living("customer", params.need("customer"), "customer")
    configuration = _configuration(call)
    returns_to = address(params.text("return_url"), "return_url") or configuration["default_return_url"]
    secret = f"test_{random_digits(SECRET_DIGITS)}"
    params.pass_over("locale")
    flow = params.group("flow_data")
    kind = flow.choice("type", FLOWS, "") if params.has("flow_data") else ""
    session: Object = {
        "id": new_id("bps"),
        "object": KIND,
        "configuration": configuration["id"],
        "created": clocks.now_of(call.store, customer),
        "customer": customer["id"],
        "customer_account": None,
        "flow": {"type": kind, **flow.plain()} if kind else None,
        "livemode": False,
        "locale": None,
        "on_behalf_of": None,
        "return_url": returns_to,
        "url": f"{call.root}{PAGE}{secret}",
        SECRET: secret,
    }
    return call.store.put(session)


def by_secret(store: Store, secret: str) -> Object | None:
    return next((session for session in store.all(KIND) if session[SECRET] == secret), None)


def cancels(call: Call, session: Object) -> bool:
    return bool(_features(call, session)["subscription_cancel"]["enabled"])


def cancel(call: Call, session: Object, subscription: Object) -> None:
    """At the end of the period or at once, as the session's configuration says. A subscription of the flexible billing
    mode then has the time in `cancel_at` alone, as at Stripe."""
    if not cancels(call, session):
        raise invalid("This portal cancels no plan.")
    if _features(call, session)["subscription_cancel"]["mode"] == "immediately":
        subscriptions.end(call, subscription, "cancellation_requested")
        return
    before = {**subscription}
    subscriptions.cancel_at_period_end(call, subscription, True)
    if subscription["billing_mode"]["type"] == "flexible":
        subscription["cancel_at_period_end"] = False
    subscriptions.keep(call, subscription, before)


def resume(call: Call, subscription: Object) -> None:
    before = {**subscription}
    subscriptions.cancel_at_period_end(call, subscription, False)
    subscriptions.keep(call, subscription, before)


def choices(call: Call, session: Object, subscription: Object) -> list[Object]:
    """The licensed prices that the subscription can be switched to."""
    feature = _features(call, session)["subscription_update"]
    if not feature["enabled"] or "price" not in feature["default_allowed_updates"]:
        return []
    current = {item["price"]["id"] for item in subscription["items"]["data"]}
    prices = [
        call.existing("price", id) for product in feature["products"] for id in product["prices"] if id not in current
    ]
    return [price for price in prices if price["active"] and price["recurring"]["usage_type"] == "licensed"]


def switch(call: Call, session: Object, subscription: Object, price_id: str) -> None:
    chosen = next((one for one in choices(call, session, subscription) if one["id"] == price_id), None)
    if chosen is None:
        raise invalid("This plan cannot be chosen here.")
    metered = _metered_of(call.store, chosen["product"])
    items: dict[str, dict[str, str]] = {}
    for number, item in enumerate(subscription["items"]["data"]):
        to = metered if subscription_items.is_metered(item) else chosen
        if to is not None and to["id"] != item["price"]["id"]:
            items[str(number)] = {"id": item["id"], "price": to["id"]}
    before = {**subscription}
    subscription_items.change(call, subscription, Params({"items": items}).groups("items"))
    proration = _features(call, session)["subscription_update"]["proration_behavior"]
    subscriptions.bill_change(call, subscription, before, proration)


def set_card(call: Call, session: Object, fails: bool) -> None:
    customer = call.living("customer", session["customer"])
    call.store.put({**customer, customers.CARD_FAILS: fails})


def pay(call: Call, session: Object, invoice_id: str) -> None:
    """Raises RefusedError when the card is declined; what it left behind stays."""
    invoice = call.existing("invoice", invoice_id)
    if invoice["customer"] != session["customer"] or invoice["status"] != "open":
        raise invalid("This invoice is not open.")
    payments.attempt(call, invoice, asked=True)


def subscription_of_session(call: Call, session: Object, id: str) -> Object:
    """One that is not over. Raises RefusedError."""
    subscription = call.existing("subscription", id)
    if subscription["customer"] != session["customer"] or subscription["status"] in subscriptions.ENDED:
        raise invalid("This plan is over.")
    return subscription


def _configuration(call: Call) -> Object:
    given = call.params.text("configuration")
    if given is not None:
        return call.existing(portal_configurations.KIND, given, "configuration")
    default = next((one for one in call.store.all(portal_configurations.KIND) if one["is_default"]), None)
    if default is None:
        raise invalid(
            "No configuration provided and your test mode default configuration has not been created. Provide a "
            "configuration, or create your default by saving your customer portal settings in test mode."
        )
    return default


def _features(call: Call, session: Object) -> Object:
    features: Object = call.existing(portal_configurations.KIND, session["configuration"])["features"]
    return features


def _metered_of(store: Store, product: str) -> Object | None:
    """The newest metered price of a product."""
    prices = (price for price in store.all("price") if price["product"] == product and price["active"])
    return next((price for price in prices if (price["recurring"] or {}).get("usage_type") == "metered"), None)
