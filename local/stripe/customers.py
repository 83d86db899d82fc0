"""/v1/customers. A customer has a card from the start; `/_standin/cards` says whether it pays."""

from local.stripe import clocks, events, lists, subscriptions
from local.stripe.call import Call
from local.stripe.ids import new_id, random_digits
from local.stripe.store import Object

URL = "/v1/customers"
TEXTS = ("name", "phone", "description", "business_name", "individual_name")
# Ours: whether the card is declined when an invoice is paid.
CARD_FAILS = "_card_fails"


def create(call: Call) -> Object:
    test_clock = call.params.text("test_clock")
    if test_clock is not None:
        call.living("test_helpers.test_clock", test_clock, "test_clock")
    customer = _new(call, test_clock)
    _read(call, customer)
    events.tell(call, "customer.created", call.store.put(customer))
    return customer


def make(call: Call, email: str | None) -> Object:
    """The customer that Checkout makes of a visitor."""
    customer = _new(call, None) | {"email": email}
    events.tell(call, "customer.created", call.store.put(customer))
    return customer


def retrieve(call: Call) -> Object:
    customer = call.named("customer")
    return as_deleted(customer) if customer.get("deleted") else customer


def update(call: Call) -> Object:
    customer = call.living("customer", call.id)
    before = {**customer}
    _read(call, customer)
    call.store.put(customer)
    events.tell_of_change(call, "customer.updated", customer, before)
    return customer


def delete(call: Call) -> Object:
    """Ends its subscriptions at once, as Stripe does."""
    customer = call.living("customer", call.id)
    for subscription in call.store.all("subscription", customer["id"]):
        if subscription["status"] not in subscriptions.ENDED:
            subscriptions.end(call, subscription, "cancellation_requested")
    customer["deleted"] = True
    call.store.put(customer)
    events.tell(call, "customer.deleted", {name: value for name, value in customer.items() if name != "deleted"})
    return as_deleted(customer)


def list_(call: Call) -> Object:
    email, test_clock = call.params.text("email"), call.params.text("test_clock")
    found = [
        customer
        for customer in lists.created_as_asked(call.params, call.store.all("customer"))
        # Stripe compares the case, too.
        if (email is None or customer["email"] == email) and customer["test_clock"] == test_clock
    ]
    return lists.page(call, URL, found)


def as_deleted(customer: Object) -> Object:
    return {"id": customer["id"], "object": "customer", "deleted": True}


def _read(call: Call, customer: Object) -> None:
    params = call.params
    if params.has("email"):
        customer["email"] = params.text("email", 512)
    for name in TEXTS:
        if params.has(name):
            customer[name] = params.text(name)
    for name in ("address", "shipping"):
        if params.has(name):
            customer[name] = params.group(name).plain() or None
    if params.has("preferred_locales"):
        customer["preferred_locales"] = params.texts("preferred_locales")
    if params.has("tax_exempt"):
        customer["tax_exempt"] = params.choice("tax_exempt", ("none", "exempt", "reverse"), "none")
    customer["metadata"] = params.metadata(customer["metadata"])
    params.pass_over("invoice_settings", "payment_method", "source", "tax", "tax_id_data", "validate")


def _new(call: Call, test_clock: str | None) -> Object:
    return {
        "id": new_id("cus"),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": clocks.now(call.store, test_clock),
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": random_digits(8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": test_clock,
        CARD_FAILS: False,
    }
