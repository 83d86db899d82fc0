"""What a quantity costs at a price, in whole cents, and the lines of invoices that say so."""

from decimal import ROUND_HALF_UP, Decimal, localcontext

from local.stripe import meters
from local.stripe.ids import new_id
from local.stripe.store import Object, Store

# Ours, on a line whose quantity is a meter's: counted again until its invoice is finalized.
METERED = "_metered"
# Enough for all that meters can count at the highest price.
DIGITS = 60


def amount(price: Object, quantity: int) -> int:
    """Rounded once, over all tiers together."""
    with localcontext() as context:
        context.prec = DIGITS
        return cents(_exact(price, quantity))


def _exact(price: Object, quantity: int) -> Decimal:
    if price["billing_scheme"] == "per_unit":
        return Decimal(price["unit_amount_decimal"]) * quantity
    if price["tiers_mode"] == "volume":
        tier = next(tier for tier in price["tiers"] if tier["up_to"] is None or quantity <= tier["up_to"])
        return _of_tier(tier, quantity)
    total, beginning = Decimal(0), 0
    for tier in price["tiers"]:
        end = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        # The first tier's flat amount is due also where nothing was used.
        if end > beginning or beginning == 0:
            total += _of_tier(tier, end - beginning)
        beginning = max(end, beginning)
        if beginning >= quantity:
            break
    return total


def cents(exact: Decimal) -> int:
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def licensed_line(store: Store, item: Object, start: int, end: int) -> Object:
    """A period in advance."""
    quantity = item["quantity"] or 0
    name = f"{quantity} x {product_name(store, item['price'])}"
    return line(item, name, amount(item["price"], quantity), quantity, start, end)


def metered_line(store: Store, item: Object, customer: str, start: int, end: int) -> Object:
    """A period that is over, or that is over as soon as it begins."""
    made = line(item, f"{product_name(store, item['price'])}: usage", 0, 0, start, end)
    made[METERED] = {"price": item["price"]["id"], "customer": customer}
    return made


def count_again(store: Store, line: Object) -> None:
    """The meter's word on a metered line; others stay as they are."""
    metered = line.get(METERED)
    if metered is None:
        return
    price = store.find("price", metered["price"])
    assert price is not None, "prices are never deleted"
    period = line["period"]
    quantity = 0
    if period["end"] > period["start"]:
        meter = price["recurring"]["meter"]
        quantity = meters.usage(store, meter, metered["customer"], period["start"], period["end"])
    total = amount(price, quantity) if period["end"] > period["start"] else 0
    line |= {"quantity": quantity, "quantity_decimal": str(quantity), "amount": total, "subtotal": total}


def line(
    item: Object, description: str, total: int, quantity: int, start: int, end: int, proration: bool = False
) -> Object:
    price = item["price"]
    return {
        "id": new_id("il"),
        "object": "line_item",
        "amount": total,
        "currency": price["currency"],
        "description": description,
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "proration_details": {"credited_items": None},
                "subscription": item["subscription"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "subscription": item["subscription"],
        "subtotal": total,
        "taxes": [],
    }


def product_name(store: Store, price: Object) -> str:
    product = store.find("product", price["product"])
    return str(product["name"]) if product is not None else "a product"


def _of_tier(tier: Object, quantity: int) -> Decimal:
    unit, flat = tier["unit_amount_decimal"], tier["flat_amount_decimal"]
    return Decimal(unit or 0) * quantity + Decimal(flat or 0)
