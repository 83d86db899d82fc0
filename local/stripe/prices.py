"""/v1/prices: recurring ones, licensed or metered by a meter, for a unit or by tiers."""

from dataclasses import replace
from decimal import Decimal

from local.stripe import events, lists, products
from local.stripe.call import Call
from local.stripe.errors import invalid, missing
from local.stripe.forms import LARGEST_INTEGER, Params
from local.stripe.ids import new_id
from local.stripe.store import Object

URL = "/v1/prices"
# How many of each a period may have: three years.
INTERVALS = {"day": 1_095, "week": 156, "month": 36, "year": 3}
MOST_CENTS = 99_999_999
USAGE_TYPES = ("licensed", "metered")


def create(call: Call) -> Object:
    params = call.params
    price: Object = {
        "id": new_id("price"),
        "object": "price",
        "active": params.boolean("active") is not False,
        "billing_scheme": params.choice("billing_scheme", ("per_unit", "tiered"), "per_unit"),
        "created": call.now,
        "currency": params.need("currency").lower(),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": params.metadata(),
        "nickname": params.text("nickname"),
        "product": _product(call),
        "recurring": _recurring(call),
        "tax_behavior": params.choice("tax_behavior", ("exclusive", "inclusive", "unspecified"), "unspecified"),
        "tiers": None,
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if params.has("recurring") else "one_time",
        "unit_amount": None,
        "unit_amount_decimal": None,
    }
    if price["billing_scheme"] == "tiered":
        price["tiers_mode"] = params.choice("tiers_mode", ("graduated", "volume"), "")
        if not price["tiers_mode"]:
            raise missing("tiers_mode")
        price["tiers"] = _tiers(params)
    else:
        price |= _amounts(params, "unit_amount")
        if price["unit_amount_decimal"] is None:
            raise missing("unit_amount")
    _take_lookup_key(call, price)
    events.tell(call, "price.created", call.store.put(price))
    return price


def retrieve(call: Call) -> Object:
    return call.named("price")


def update(call: Call) -> Object:
    """What a price costs never changes: who wants that makes another."""
    price = call.named("price")
    before = {**price}
    active = call.params.boolean("active")
    if active is not None:
        price["active"] = active
    if call.params.has("nickname"):
        price["nickname"] = call.params.text("nickname")
    price["metadata"] = call.params.metadata(price["metadata"])
    call.params.pass_over("tax_behavior")
    _take_lookup_key(call, price)
    call.store.put(price)
    events.tell_of_change(call, "price.updated", price, before)
    return price


def list_(call: Call) -> Object:
    params = call.params
    active, product, kind = params.boolean("active"), params.text("product"), params.text("type")
    keys, currency, recurring = params.texts("lookup_keys"), params.text("currency"), params.group("recurring")
    interval, meter, usage_type = recurring.text("interval"), recurring.text("meter"), recurring.text("usage_type")
    if len(keys) > 10:
        raise invalid("You can provide at most 10 lookup keys.", "lookup_keys")
    found = [
        price
        for price in lists.created_as_asked(params, call.store.all("price"))
        if (active is None or price["active"] == active)
        and product in (None, price["product"])
        and kind in (None, price["type"])
        and currency in (None, price["currency"])
        and (not keys or price["lookup_key"] in keys)
        and interval in (None, (price["recurring"] or {}).get("interval"))
        and meter in (None, (price["recurring"] or {}).get("meter"))
        and usage_type in (None, (price["recurring"] or {}).get("usage_type"))
    ]
    return lists.page(call, URL, found)


def _product(call: Call) -> str:
    given = call.params.text("product")
    if given is not None:
        return str(call.living("product", given, "product")["id"])
    if not call.params.has("product_data"):
        raise missing("product")
    return str(products.create(replace(call, params=call.params.group("product_data"), id=""))["id"])


def _recurring(call: Call) -> Object | None:
    if not call.params.has("recurring"):
        return None
    given = call.params.group("recurring")
    interval = given.choice("interval", [*INTERVALS], "")
    if not interval:
        raise missing("recurring[interval]")
    recurring = {
        "interval": interval,
        "interval_count": given.integer("interval_count", 1, INTERVALS[interval]) or 1,
        "meter": given.text("meter"),
        "trial_period_days": None,
        "usage_type": given.choice("usage_type", USAGE_TYPES, "licensed"),
    }
    if recurring["usage_type"] == "metered" and recurring["meter"] is None:
        raise invalid(
            "Metered prices must be backed by a meter: give recurring[meter].", "recurring[meter]", "parameter_missing"
        )
    if recurring["meter"] is not None:
        if recurring["usage_type"] != "metered":
            raise invalid("A meter needs usage_type metered.", "recurring[usage_type]")
        call.existing("billing.meter", str(recurring["meter"]), "recurring[meter]")
    return recurring


def _tiers(params: Params) -> list[Object]:
    tiers, beginning = [], 0
    given = params.groups("tiers")
    if not given:
        raise missing("tiers")
    for number, tier in enumerate(given):
        last = number == len(given) - 1
        up_to = tier.need("up_to")
        if (up_to == "inf") is not last:
            raise invalid("The last tier, and it alone, is up to `inf`.", f"tiers[{number}][up_to]")
        if not last and not (up_to.isascii() and up_to.isdecimal() and beginning < int(up_to) <= LARGEST_INTEGER):
            raise invalid("up_to must be a whole number above the tier before.", f"tiers[{number}][up_to]")
        beginning = beginning if last else int(up_to)
        amounts = _amounts(tier, "unit_amount") | _amounts(tier, "flat_amount")
        if all(amount is None for amount in amounts.values()):
            raise missing(f"tiers[{number}][unit_amount]")
        tiers.append({**amounts, "up_to": None if last else beginning})
    return tiers


def _amounts(params: Params, name: str) -> Object:
    """Cents, and the same as a decimal; the first is None where they are no whole number."""
    whole, exact = params.integer(name, 0, MOST_CENTS), params.decimal(f"{name}_decimal")
    if whole is not None and exact is not None:
        raise invalid(f"You may only specify one of these parameters: {name}, {name}_decimal.", name)
    exact = Decimal(whole) if whole is not None else exact
    if exact is None:
        return {name: None, f"{name}_decimal": None}
    return {name: int(exact) if exact == exact.to_integral_value() else None, f"{name}_decimal": plain(exact)}


def plain(number: Decimal) -> str:
    """Without an exponent and without zeros at the end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _take_lookup_key(call: Call, price: Object) -> None:
    moves = call.params.boolean("transfer_lookup_key")
    if not call.params.has("lookup_key"):
        return
    key = call.params.text("lookup_key", 200)
    for other in call.store.all("price") if key else []:
        if other["lookup_key"] == key and other["id"] != price["id"]:
            if not moves:
                raise invalid(
                    f"A price ({other['id']}) already uses that lookup key.", "lookup_key", "lookup_key_already_in_use"
                )
            before = {**other}
            call.store.put({**other, "lookup_key": None})
            events.tell_of_change(call, "price.updated", {**other, "lookup_key": None}, before)
    price["lookup_key"] = key
