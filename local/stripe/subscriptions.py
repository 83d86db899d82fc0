"""/v1/subscriptions: their life from the first invoice to the end, in whole periods of all their items together.

incomplete: the first invoice waits to be paid; paying it makes it active, a day without makes it incomplete_expired.
active: paid. past_due: the latest invoice was declined; paying it makes it active, the last attempt canceled.
canceled and incomplete_expired: over, for ever.
"""

from collections.abc import Sequence

from local.stripe import charges, clocks, events, invoices, lists, payments, subscription_items
from local.stripe.call import Call
from local.stripe.errors import declined, invalid, no_such
from local.stripe.forms import Params
from local.stripe.ids import new_id
from local.stripe.periods import next_boundary
from local.stripe.store import Object
from local.stripe.subscription_items import PRORATIONS, Wanted

URL = "/v1/subscriptions"
ENDED = ("canceled", "incomplete_expired")
BEHAVIOURS = ("allow_incomplete", "default_incomplete", "error_if_incomplete")
PASSED_OVER = (
    "automatic_tax",
    "collection_method",
    "default_payment_method",
    "invoice_settings",
    "off_session",
    "payment_settings",
)
# Ours: lines that the next invoice takes along.
PENDING = "_pending"


def create(call: Call) -> Object:
    params = call.params
    customer = call.living("customer", params.need("customer"), "customer")
    wanted = subscription_items.read(call, params.groups("items"))
    behaviour = params.choice("payment_behavior", BEHAVIOURS, "allow_incomplete")
    mode = params.group("billing_mode").choice("type", ("classic", "flexible"), "flexible")
    params.choice("proration_behavior", PRORATIONS, "none")
    params.pass_over("currency", *PASSED_OVER)
    metadata, description = params.metadata(), params.text("description")
    subscription = begin(call, customer, wanted, metadata, description, mode, pays=behaviour != "default_incomplete")
    if behaviour == "error_if_incomplete" and subscription["status"] == "incomplete":
        raise declined(keeps=False)
    if _read_cancellation(call, subscription):
        call.store.put(subscription)
    return subscription


def begin(
    call: Call,
    customer: Object,
    wanted: Sequence[Wanted],
    metadata: dict[str, str],
    description: str | None = None,
    mode: str = "flexible",
    pays: bool = True,
) -> Object:
    """A subscription with its first invoice; `pays` tries the card at once."""
    now = clocks.now_of(call.store, customer)
    recurring = wanted[0].price["recurring"]
    end = next_boundary(now, recurring["interval"], recurring["interval_count"], now)
    id = new_id("sub")
    items = [subscription_items.make(id, one, now, now, end) for one in wanted]
    subscription = _new(id, customer, items, now, metadata, description, mode)
    lines = [
        charges.metered_line(call.store, item, customer["id"], now, now)
        if subscription_items.is_metered(item)
        else charges.licensed_line(call.store, item, now, end)
        for item in items
    ]
    invoice = invoices.draft(call, subscription, "subscription_create", lines, now, now)
    events.tell(call, "customer.subscription.created", call.store.put(subscription))
    invoices.finalize(call, invoice)
    if pays or invoice["amount_due"] == 0:
        payments.attempt(call, invoice)
    return call.existing("subscription", id)


def retrieve(call: Call) -> Object:
    return call.named("subscription")


def update(call: Call) -> Object:
    params = call.params
    subscription = call.named("subscription")
    if subscription["status"] in ENDED and params.names() - {"metadata", "cancellation_details"}:
        raise invalid("A canceled subscription can only update its cancellation_details and metadata.")
    before = {**subscription}
    proration = params.choice("proration_behavior", PRORATIONS, "create_prorations")
    behaviour = params.choice("payment_behavior", BEHAVIOURS, "allow_incomplete")
    params.choice("billing_cycle_anchor", ("unchanged",), "unchanged")
    params.pass_over(*PASSED_OVER)
    subscription["metadata"] = params.metadata(subscription["metadata"])
    if params.has("description"):
        subscription["description"] = params.text("description")
    if params.has("cancellation_details"):
        subscription["cancellation_details"] = _details(params.group("cancellation_details"), subscription)
    _read_cancellation(call, subscription)
    changes = params.groups("items")
    if changes:
        subscription_items.change(call, subscription, changes)
    bill_change(call, subscription, before, proration, behaviour)
    return call.existing("subscription", subscription["id"])


def bill_change(
    call: Call, subscription: Object, before: Object, proration: str, behaviour: str = "allow_incomplete"
) -> None:
    """Keeps a changed subscription, tells of it, and bills what the change of items costs or gives back. Raises
    RefusedError where that is not paid and has to be: then nothing has changed."""
    subscription_items.prorate(call, subscription, before, proration)
    keep(call, subscription, before)
    if proration == "always_invoice" and subscription[PENDING]:
        start, end = period(subscription)
        pending, subscription[PENDING] = subscription[PENDING], []
        invoice = invoices.draft(call, subscription, "subscription_update", pending, start, end)
        call.store.put(subscription)
        invoices.finalize(call, invoice)
        if not payments.attempt(call, invoice) and behaviour == "error_if_incomplete":
            raise declined(keeps=False)


def cancel(call: Call) -> Object:
    """At once. `invoice_now` bills what was used since the period began."""
    subscription = call.named("subscription")
    if subscription["status"] in ENDED:
        raise no_such("subscription", subscription["id"])
    if call.params.has("cancellation_details"):
        subscription["cancellation_details"] = _details(call.params.group("cancellation_details"), subscription)
    call.params.pass_over("prorate")
    if call.params.boolean("invoice_now"):
        bill_usage(call, subscription, clocks.now_of(call.store, subscription))
    return end(call, subscription, "cancellation_requested")


def list_(call: Call) -> Object:
    params = call.params
    status, price, test_clock = params.text("status"), params.text("price"), params.text("test_clock")
    params.pass_over("collection_method", "automatic_tax", "plan")
    found = [
        subscription
        for subscription in lists.created_as_asked(params, call.store.all("subscription", params.text("customer")))
        if _has_status(subscription, status)
        and (price is None or price in [item["price"]["id"] for item in subscription["items"]["data"]])
        and test_clock in (None, subscription["test_clock"])
    ]
    return lists.page(call, URL, found)


def become(call: Call, subscription: Object, status: str) -> None:
    before = {**subscription}
    subscription["status"] = status
    keep(call, subscription, before)


def keep(call: Call, subscription: Object, before: Object) -> None:
    """Keeps a changed subscription, and tells of it."""
    call.store.put(subscription)
    events.tell_of_change(call, "customer.subscription.updated", subscription, before)


def end(call: Call, subscription: Object, reason: str) -> Object:
    """Over from now on; `reason` is why, where nobody asked for it before."""
    now = clocks.now_of(call.store, subscription)
    subscription |= {"status": "canceled", "ended_at": now, "canceled_at": subscription["canceled_at"] or now}
    details = subscription["cancellation_details"]
    subscription["cancellation_details"] = {**details, "reason": details["reason"] or reason}
    events.tell(call, "customer.subscription.deleted", call.store.put(subscription))
    return subscription


def bill_usage(call: Call, subscription: Object, until: int) -> None:
    """An invoice of what was used since the period began and what is pending, where there is any of either."""
    start, _ = period(subscription)
    metered = [
        charges.metered_line(call.store, item, subscription["customer"], start, until)
        for item in subscription["items"]["data"]
        if subscription_items.is_metered(item)
    ]
    lines = [*subscription[PENDING], *metered]
    subscription[PENDING] = []
    if lines:
        invoices.draft(call, subscription, "subscription_cycle", lines, start, until)


def period(subscription: Object) -> tuple[int, int]:
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def cancel_at_period_end(call: Call, subscription: Object, wanted: bool) -> None:
    """As the API's field of that name says; taking it back also takes back a time that was given."""
    _, end = period(subscription)
    now = clocks.now_of(call.store, subscription)
    details = subscription["cancellation_details"]
    subscription |= {
        "cancel_at": end if wanted else None,
        "cancel_at_period_end": wanted,
        "canceled_at": now if wanted else None,
        "cancellation_details": {**details, "reason": "cancellation_requested" if wanted else None},
    }


def _read_cancellation(call: Call, subscription: Object) -> bool:
    params = call.params
    at_end = params.boolean("cancel_at_period_end")
    if at_end is not None:
        cancel_at_period_end(call, subscription, at_end)
    if params.has("cancel_at"):
        if at_end:
            raise invalid("You may only specify one of cancel_at and cancel_at_period_end.", "cancel_at")
        now = clocks.now_of(call.store, subscription)
        at = params.integer("cancel_at", now + 1, clocks.LATEST)
        subscription |= {"cancel_at": at, "cancel_at_period_end": False, "canceled_at": now if at else None}
    return at_end is not None or params.has("cancel_at")


def _details(given: Params, subscription: Object) -> Object:
    known = subscription["cancellation_details"]
    return {"comment": given.text("comment"), "feedback": given.text("feedback"), "reason": known["reason"]}


def _has_status(subscription: Object, wanted: str | None) -> bool:
    if wanted in (None, "all", "ended"):
        ended = subscription["status"] in ENDED
        return wanted == "all" or ended is (wanted == "ended")
    return bool(subscription["status"] == wanted)


def _new(
    id: str,
    customer: Object,
    items: list[Object],
    now: int,
    metadata: dict[str, str],
    description: str | None,
    mode: str,
) -> Object:
    return {
        "id": id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": now,
        "billing_cycle_anchor_config": None,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"} if mode == "flexible" else None,
            "type": mode,
            "updated_at": None,
        },
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": items[0]["price"]["currency"],
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": description,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": {
            "object": "list",
            "data": items,
            "has_more": False,
            "total_count": len(items),
            "url": f"/v1/subscription_items?subscription={id}",
        },
        "latest_invoice": None,
        "livemode": False,
        "metadata": metadata,
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "status": "incomplete",
        "test_clock": customer["test_clock"],
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
        PENDING: [],
    }
