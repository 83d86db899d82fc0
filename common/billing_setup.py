"""What has to be there at Stripe before anything can be sold, made of the plans file. What is there is found again, so
that a second run changes nothing; another price in the file makes another price there, for new subscriptions."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

from common import links, plans, stripe_api, stripe_objects, stripe_portal, stripe_prices
from common.money import NANO_DOLLARS_PER_CENT
from common.plans import Plan
from common.stripe_api import StripeRefused
from common.stripe_prices import CURRENCY, METER, METER_CUSTOMER, METER_VALUE

if TYPE_CHECKING:
    from common.stripe_api import Price, PriceCreateParamsTier, StripeClient

WEBHOOK = "/stripe/webhook"
MARK = {"batchyard": "setup"}
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Step:
    """A thing that has to be there, and what was done for it. `secret` is what a new endpoint's events are signed with:
    Stripe does not tell it again."""

    what: str
    id: str
    done: Literal["kept", "made", "changed", "left out"]
    secret: str | None = None


def run() -> Iterator[Step]:
    """Each step as soon as it is done. Run again after an error it goes on. Raises what stripe_api raises."""
    with stripe_api.calling() as stripe:
        meter = _meter(stripe)
        yield meter
        for plan in plans.sold().values():
            product = _product(stripe, plan)
            yield product
            yield from _prices(stripe, plan, product.id, meter.id)
        yield _endpoint(stripe)
        yield _portal(stripe)


def _meter(stripe: "StripeClient") -> Step:
    what = f"meter {METER}"
    for meter in stripe.v1.billing.meters.list({"status": "active", "limit": MOST_LISTED}).data:
        if meter.event_name == METER:
            return Step(what, meter.id, "kept")
    made = stripe.v1.billing.meters.create(
        {
            "display_name": "Tokens",
            "event_name": METER,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": METER_CUSTOMER},
            "value_settings": {"event_payload_key": METER_VALUE},
        }
    )
    return Step(what, made.id, "made")


def _product(stripe: "StripeClient", plan: Plan) -> Step:
    """Its name is the operator's to change: customers read it."""
    what, product_id = f"product of {plan.name}", f"batchyard_{plan.name}"
    try:
        with stripe_api.calling():
            found = stripe.v1.products.retrieve(product_id)
    except StripeRefused as refused:
        if refused.reason != "resource_missing":
            raise
        found = stripe.v1.products.create(
            {"id": product_id, "name": f"Batchyard {plan.name}", "metadata": {stripe_objects.PLAN: plan.name} | MARK}
        )
        return Step(what, found.id, "made")
    if not found.active:
        stripe.v1.products.update(product_id, {"active": True})
        return Step(what, product_id, "changed")
    return Step(what, product_id, "kept")


def _prices(stripe: "StripeClient", plan: Plan, product: str, meter: str) -> Iterator[Step]:
    known = stripe_prices.by_key(stripe_prices.keys(plan))
    monthly, metered = stripe_prices.monthly_key(plan), stripe_prices.metered_key(plan)
    cents: dict[str, Any] = {"unit_amount": plan.price, "recurring": {"interval": "month"}}
    same = (found := known.get(monthly)) is not None and found.unit_amount == plan.price and _is_ours(found, plan)
    yield _price(stripe, plan, product, monthly, cents, known.get(monthly), same=same)
    if not plan.overage_price:
        return
    tiers = _tiers(plan)
    by_token: dict[str, Any] = {
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "tiers": tiers,
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
    }
    same = (found := known.get(metered)) is not None and _has(found, tiers, meter) and _is_ours(found, plan)
    yield _price(stripe, plan, product, metered, by_token, known.get(metered), same=same)


def _is_ours(price: "Price", plan: Plan) -> bool:
    """Whether it says of which plan it is, and can be bought."""
    named = stripe_api.metadatum(price.metadata, stripe_objects.PLAN)
    return price.active and price.currency == CURRENCY and named == plan.name


def _tiers(plan: Plan) -> "list[PriceCreateParamsTier]":
    """Nothing for what the plan includes, and its price for each token over that."""
    # As text, for which the type has no place: a small Decimal would be sent with an exponent.
    cents = cast(Decimal, f"{Decimal(plan.overage_price) / NANO_DOLLARS_PER_CENT:f}")
    over: PriceCreateParamsTier = {"up_to": "inf", "unit_amount_decimal": cents}
    return [{"up_to": plan.included_tokens, "unit_amount": 0}, over] if plan.included_tokens else [over]


def _has(price: "Price", tiers: "list[PriceCreateParamsTier]", meter: str) -> bool:
    wanted = [
        (None if tier["up_to"] == "inf" else tier["up_to"], Decimal(tier.get("unit_amount_decimal", 0)))
        for tier in tiers
    ]
    found = [(tier.up_to, Decimal(tier.unit_amount_decimal or 0)) for tier in price.tiers or []]
    return found == wanted and price.recurring is not None and price.recurring.meter == meter


def _price(
    stripe: "StripeClient",
    plan: Plan,
    product: str,
    key: str,
    params: dict[str, Any],
    before: "Price | None",
    *,
    same: bool,
) -> Step:
    what = f"price {key}"
    if before is not None and same:
        return Step(what, before.id, "kept")
    named: Any = {
        "currency": CURRENCY,
        "product": product,
        "lookup_key": key,
        "transfer_lookup_key": True,
        "metadata": {stripe_objects.PLAN: plan.name} | MARK,
    }
    made = stripe.v1.prices.create(named | params)
    if before is None:
        return Step(what, made.id, "made")
    # Subscriptions that have it keep it; nobody begins one with it.
    stripe.v1.prices.update(before.id, {"active": False})
    return Step(what, made.id, "changed")


def _endpoint(stripe: "StripeClient") -> Step:
    url = links.to(WEBHOOK)
    what = f"webhook endpoint {url}"
    if not stripe_api.has_stand_in() and not url.startswith("https://"):
        # Stripe has no business with an address of this machine alone; docs/billing.md says what forwards its events.
        return Step(what, "", "left out")
    types: Any = list(stripe_objects.TYPES)
    for endpoint in stripe.v1.webhook_endpoints.list({"limit": MOST_LISTED}).data:
        if endpoint.url == url and endpoint.status == "enabled":
            if set(types) <= set(endpoint.enabled_events) or endpoint.enabled_events == ["*"]:
                return Step(what, endpoint.id, "kept")
            stripe.v1.webhook_endpoints.update(endpoint.id, {"enabled_events": types})
            return Step(what, endpoint.id, "changed")
    made = stripe.v1.webhook_endpoints.create(
        {
            "url": url,
            "enabled_events": types,
            # Its events have the shapes that stripe_objects reads, whatever the version of the whole account is.
            "api_version": stripe_api.version(),
            "description": "Batchyard",
            "metadata": MARK,
        }
    )
    return Step(what, made.id, "made", made.secret)


def _portal(stripe: "StripeClient") -> Step:
    what = "portal"
    for configuration, revision in stripe_portal.known(stripe).items():
        if revision == stripe_portal.REVISION:
            return Step(what, configuration, "kept")
        stripe.v1.billing_portal.configurations.update(configuration, stripe_portal.wanted())
        return Step(what, configuration, "changed")
    return Step(what, stripe.v1.billing_portal.configurations.create(stripe_portal.wanted()).id, "made")
