"""The items of a subscription, /v1/subscription_items: one price each, all of the same interval.

A metered item is billed for the whole of a period by the price that it has when the period ends.
"""

import copy
from dataclasses import dataclass
from decimal import Decimal

from local.stripe import charges, clocks, lists, subscriptions
from local.stripe.call import Call
from local.stripe.errors import invalid, missing
from local.stripe.forms import Params
from local.stripe.ids import new_id
from local.stripe.store import Object

URL = "/v1/subscription_items"
PRORATIONS = ("always_invoice", "create_prorations", "none")
MOST_ITEMS = 20
MOST_UNITS = 10**9


@dataclass(frozen=True)
class Wanted:
    """An item to be; a metered one has no quantity."""

    price: Object
    quantity: int | None
    metadata: dict[str, str]


def read(call: Call, given: list[Params]) -> list[Wanted]:
    """Raises RefusedError where they cannot be of one subscription."""
    if not given:
        raise missing("items")
    wanted = [_read_one(call, one) for one in given]
    check_together([one.price for one in wanted])
    return wanted


def check_together(prices: list[Object]) -> None:
    if not 0 < len(prices) <= MOST_ITEMS:
        raise invalid(f"A subscription has 1 to {MOST_ITEMS} items.", "items")
    if len({price["id"] for price in prices}) < len(prices):
        raise invalid("Cannot add multiple subscription items with the same price.", "items")
    if len({(price["currency"], *map(price["recurring"].get, ("interval", "interval_count"))) for price in prices}) > 1:
        raise invalid("All items must have the same currency and interval here.", "items")


def make(subscription: str, wanted: Wanted, now: int, start: int, end: int) -> Object:
    item: Object = {
        "id": new_id("si"),
        "object": "subscription_item",
        "billed_until": None,
        "billing_thresholds": None,
        "created": now,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": wanted.metadata,
        "price": wanted.price,
        "quantity": wanted.quantity,
        "subscription": subscription,
        "tax_rates": [],
    }
    return _with_price(item, wanted.price)


def is_metered(item: Object) -> bool:
    return bool(item["price"]["recurring"]["usage_type"] == "metered")


def change(call: Call, subscription: Object, changes: list[Params]) -> None:
    """Each change names an item by its id, to change or delete it, or else makes one."""
    items = copy.deepcopy(subscription["items"]["data"])
    now = clocks.now_of(call.store, subscription)
    for given in changes:
        id = given.text("id")
        if id is None:
            items.append(make(subscription["id"], _read_one(call, given), now, *subscriptions.period(subscription)))
            continue
        item = next((item for item in items if item["id"] == id), None)
        if item is None:
            raise invalid(f"The subscription has no item '{id}'.", "items", "resource_missing")
        given.pass_over("clear_usage")
        if given.boolean("deleted"):
            items.remove(item)
            continue
        _change_one(call, item, given)
    check_together([item["price"] for item in items])
    subscription["items"] = {**subscription["items"], "data": items, "total_count": len(items)}


def prorate(call: Call, subscription: Object, before: Object, proration: str) -> None:
    """Puts what licensed items cost more or less for the rest of the period on the subscription's next invoice."""
    start, end = subscriptions.period(before)
    now = clocks.now_of(call.store, subscription)
    share = Decimal(max(0, end - now)) / Decimal(end - start)
    old = {item["id"]: item for item in before["items"]["data"] if not is_metered(item)}
    new = {item["id"]: item for item in subscription["items"]["data"] if not is_metered(item)}
    if proration == "none" or subscription["status"] == "incomplete":
        return
    for id in [*old, *(id for id in new if id not in old)]:
        was, is_now = old.get(id), new.get(id)
        if was and is_now and (was["price"]["id"], was["quantity"]) == (is_now["price"]["id"], is_now["quantity"]):
            continue
        for item, sign, words in ((was, -1, "Unused time on"), (is_now, 1, "Remaining time on")):
            if item is not None:
                cost = charges.cents(sign * share * charges.amount(item["price"], item["quantity"]))
                name = f"{words} {charges.product_name(call.store, item['price'])}"
                line = charges.line(item, name, cost, item["quantity"], now, end, proration=True)
                subscription[subscriptions.PENDING] = [*subscription[subscriptions.PENDING], line]


def create(call: Call) -> Object:
    subscription = call.existing("subscription", call.params.need("subscription"), "subscription")
    known = {item["id"] for item in subscription["items"]["data"]}
    changed = _changed(call, subscription, Params({**call.params.plain()}))
    return next(item for item in changed["items"]["data"] if item["id"] not in known)


def retrieve(call: Call) -> Object:
    _, item = _found(call)
    return item


def update(call: Call) -> Object:
    subscription, item = _found(call)
    _changed(call, subscription, Params({**call.params.plain(), "id": item["id"]}))
    return _found(call)[1]


def delete(call: Call) -> Object:
    subscription, item = _found(call)
    _changed(call, subscription, Params({**call.params.plain(), "id": item["id"], "deleted": "true"}))
    return {"id": item["id"], "object": "subscription_item", "deleted": True}


def list_(call: Call) -> Object:
    subscription = call.existing("subscription", call.params.need("subscription"), "subscription")
    return lists.page(call, URL, subscription["items"]["data"])


def _changed(call: Call, subscription: Object, given: Params) -> Object:
    before = {**subscription}
    proration = given.choice("proration_behavior", PRORATIONS, "create_prorations")
    behaviour = given.choice("payment_behavior", subscriptions.BEHAVIOURS, "allow_incomplete")
    given.pass_over("subscription")
    change(call, subscription, [given])
    given.finish()
    subscriptions.bill_change(call, subscription, before, proration, behaviour)
    return call.existing("subscription", subscription["id"])


def _found(call: Call) -> tuple[Object, Object]:
    for subscription in call.store.all("subscription"):
        for item in subscription["items"]["data"]:
            if item["id"] == call.id:
                return subscription, item
    raise invalid(f"No such subscription item: '{call.id}'", "id", "resource_missing")


def _read_one(call: Call, given: Params) -> Wanted:
    price = _price(call, given)
    quantity = given.integer("quantity", 0, MOST_UNITS)
    given.pass_over("tax_rates", "clear_usage", "subscription")
    return Wanted(price, _quantity(price, quantity), given.metadata())


def _change_one(call: Call, item: Object, given: Params) -> None:
    quantity = given.integer("quantity", 0, MOST_UNITS)
    if given.has("price"):
        price = _price(call, given)
        was_metered = is_metered(item)
        _with_price(item, price)
        item["quantity"] = _quantity(price, quantity if quantity is not None or was_metered else item["quantity"])
    elif quantity is not None:
        item["quantity"] = _quantity(item["price"], quantity)
    item["metadata"] = given.metadata(item["metadata"])


def _price(call: Call, given: Params) -> Object:
    price = call.existing("price", given.need("price"), "items[price]")
    if price["recurring"] is None:
        raise invalid("The price specified is set to `type=one_time` but this field only accepts recurring prices.")
    if not price["active"]:
        raise invalid("The price specified is inactive. This field only accepts active prices.")
    return price


def _quantity(price: Object, given: int | None) -> int | None:
    if price["recurring"]["usage_type"] == "metered":
        if given is not None:
            raise invalid("Metered prices have no quantity: their meter has it.", "items[quantity]")
        return None
    return 1 if given is None else given


def _with_price(item: Object, price: Object) -> Object:
    recurring = price["recurring"]
    plan = {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }
    item |= {"price": price, "plan": plan}
    return item
