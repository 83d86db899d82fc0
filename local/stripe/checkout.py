"""/v1/checkout/sessions in subscription mode: open until it is paid (complete) or its time is over (expired)."""

from urllib.parse import quote, urlsplit

from local.stripe import charges, clocks, customers, events, lists, subscription_items, subscriptions
from local.stripe.call import Call
from local.stripe.errors import declined, invalid, missing
from local.stripe.ids import new_id
from local.stripe.store import Object
from local.stripe.subscription_items import Wanted

KIND = "checkout.session"
URL = "/v1/checkout/sessions"
PAGE = "/c/pay/"
OPEN_SECONDS = 24 * 3_600
SHORTEST_SECONDS = 30 * 60
PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
# Ours: the customer's clock, and what the subscription will be made of.
TEST_CLOCK = "_test_clock"
SUBSCRIPTION = "_subscription_data"
PASSED_OVER = (
    "allow_promotion_codes",
    "automatic_tax",
    "billing_address_collection",
    "consent_collection",
    "custom_text",
    "customer_update",
    "locale",
    "payment_method_collection",
    "payment_method_types",
    "saved_payment_method_options",
    "tax_id_collection",
)


def create(call: Call) -> Object:
    params = call.params
    if params.need("mode") != "subscription":
        raise invalid("The stand-in's Checkout only knows the mode `subscription`.", "mode")
    params.choice("ui_mode", ("hosted_page", "hosted"), "hosted_page")
    params.pass_over(*PASSED_OVER)
    given = params.text("customer")
    customer = None if given is None else call.living("customer", given, "customer")
    now = clocks.now_of(call.store, customer or {})
    wanted = _wanted(call)
    total = sum(charges.amount(one.price, one.quantity) for one in wanted if one.quantity is not None)
    data = params.group("subscription_data")
    id = new_id("cs_test")
    session: Object = {
        "id": id,
        "object": KIND,
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": address(params.text("cancel_url"), "cancel_url"),
        "client_reference_id": params.text("client_reference_id", 200),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": now,
        "currency": wanted[0].price["currency"],
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": None if customer is None else customer["id"],
        "customer_account": None,
        "customer_creation": "always" if customer is None else None,
        "customer_details": None,
        "customer_email": params.text("customer_email", 800),
        "discounts": [],
        "expires_at": params.integer("expires_at", now + SHORTEST_SECONDS, now + OPEN_SECONDS) or now + OPEN_SECONDS,
        "invoice": None,
        "invoice_creation": None,
        "line_items": {
            "object": "list",
            "data": [_line_item(call, one) for one in wanted],
            "has_more": False,
            "url": f"{URL}/{id}/line_items",
        },
        "livemode": False,
        "locale": None,
        "metadata": params.metadata(),
        "mode": "subscription",
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "always",
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": address(params.need("success_url"), "success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{call.root}{PAGE}{id}",
        "wallet_options": None,
        TEST_CLOCK: None if customer is None else customer["test_clock"],
        SUBSCRIPTION: {
            "metadata": data.metadata(),
            "description": data.text("description"),
            "mode": data.group("billing_mode").choice("type", ("classic", "flexible"), "flexible"),
        },
    }
    return call.store.put(session)


def retrieve(call: Call) -> Object:
    return call.named(KIND)


def line_items(call: Call) -> Object:
    session = call.named(KIND)
    return lists.page(call, session["line_items"]["url"], session["line_items"]["data"])


def expire(call: Call) -> Object:
    session = call.named(KIND)
    if session["status"] != "open":
        raise invalid(f'Only Checkout Sessions with a status in ["open"] can be expired, not {session["status"]}.')
    return expire_session(call, session)


def list_(call: Call) -> Object:
    params = call.params
    subscription, status = params.text("subscription"), params.text("status")
    found = [
        session
        for session in lists.created_as_asked(params, call.store.all(KIND, params.text("customer")))
        if subscription in (None, session["subscription"]) and status in (None, session["status"])
    ]
    return lists.page(call, URL, found)


def expire_session(call: Call, session: Object) -> Object:
    session |= {"status": "expired", "url": None}
    events.tell(call, "checkout.session.expired", call.store.put(session))
    return session


def pay(call: Call, session: Object, fails_later: bool) -> Object:
    """Completes an open session by a card that pays now, and later too, unless it `fails_later`."""
    customer = _customer(call, session)
    call.store.put({**customer, customers.CARD_FAILS: False})
    wanted = [
        Wanted(call.existing("price", line["price"]["id"]), line["quantity"], {})
        for line in session["line_items"]["data"]
    ]
    data = session[SUBSCRIPTION]
    subscription = subscriptions.begin(
        call, customer, wanted, data["metadata"], data["description"], data["mode"], pays=True
    )
    if fails_later:
        latest = call.existing("customer", customer["id"])
        call.store.put({**latest, customers.CARD_FAILS: True})
    session |= {
        "customer": customer["id"],
        "customer_details": {
            "address": None,
            "business_name": None,
            "email": customer["email"],
            "individual_name": None,
            "name": customer["name"],
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
        "invoice": subscription["latest_invoice"],
        "payment_status": "paid" if session["amount_total"] else "no_payment_required",
        "status": "complete",
        "subscription": subscription["id"],
        "url": None,
    }
    events.tell(call, "checkout.session.completed", call.store.put(session))
    return session


def decline() -> None:
    """What a refused card does at Checkout: nothing but an error on the page."""
    raise declined(keeps=False)


def address_after(session: Object) -> str:
    """Where the browser goes when it is paid."""
    return str(session["success_url"]).replace(PLACEHOLDER, quote(session["id"]))


def _customer(call: Call, session: Object) -> Object:
    if session["customer"] is not None:
        return call.living("customer", session["customer"], "customer")
    return customers.make(call, session["customer_email"])


def _wanted(call: Call) -> list[Wanted]:
    given = call.params.groups("line_items")
    if not given:
        raise missing("line_items")
    for one in given:
        one.pass_over("adjustable_quantity")
    wanted = subscription_items.read(call, given)
    if all(one.quantity is None for one in wanted):
        # Stripe takes these; a session that is paid without an amount is more than is needed here.
        raise invalid("The stand-in's Checkout wants a licensed price beside the metered ones.", "line_items")
    return wanted


def _line_item(call: Call, wanted: Wanted) -> Object:
    total = 0 if wanted.quantity is None else charges.amount(wanted.price, wanted.quantity)
    return {
        "id": new_id("li"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": total,
        "amount_tax": 0,
        "amount_total": total,
        "currency": wanted.price["currency"],
        "description": charges.product_name(call.store, wanted.price),
        "price": wanted.price,
        "quantity": wanted.quantity,
    }


def address(url: str | None, param: str) -> str | None:
    """Of http or https; it may hold the placeholder."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or any(ord(character) < 33 or ord(character) == 127 for character in url):
        raise invalid("Not a valid URL", param, "url_invalid")
    return url
