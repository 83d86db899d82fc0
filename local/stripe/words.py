"""Amounts, prices and dates as the pages write them."""

from datetime import UTC, datetime
from decimal import Decimal

from local.stripe.store import Object

SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£"}


def money(cents: int, currency: str) -> str:
    amount = f"{Decimal(abs(cents)) / 100:,.2f}"
    sign = "-" if cents < 0 else ""
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{amount}" if symbol else f"{sign}{amount} {currency.upper()}"


def price(one: Object, quantity: int | None) -> str:
    recurring = one["recurring"]
    count, interval = recurring["interval_count"], recurring["interval"]
    every = f"a {interval}" if count == 1 else f"every {count} {interval}s"
    if recurring["usage_type"] == "metered":
        return "by what is used"
    if one["unit_amount_decimal"] is None:
        return f"by tiers, {every}"
    cents = Decimal(one["unit_amount_decimal"]) * (1 if quantity is None else quantity)
    return f"{money(int(cents), one['currency'])} {every}"


def date(moment: int) -> str:
    day = datetime.fromtimestamp(moment, UTC)
    return f"{day.day} {day:%B %Y}"
