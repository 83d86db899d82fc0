"""How the plans that are sold are called at Stripe: what billing setup makes, and what a checkout looks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common import stripe_api
from common.errors import Conflict
from common.plans import Plan

if TYPE_CHECKING:
    from common.stripe_api import Price

CURRENCY = "usd"
# The meter that every metered price counts by, and what the payload of its events calls the customer and the tokens.
METER = "batchyard_tokens"
METER_CUSTOMER = "stripe_customer_id"
METER_VALUE = "value"


@dataclass(frozen=True, slots=True)
class Prices:
    """The ids of a plan's prices: by the month, and for each token over those that this includes. The latter is None
    for a plan whose tokens cost nothing more."""

    monthly: str
    metered: str | None

    @property
    def ids(self) -> list[str]:
        return [self.monthly] if self.metered is None else [self.monthly, self.metered]


def monthly_key(plan: Plan) -> str:
    return f"batchyard_{plan.name}_monthly"


def metered_key(plan: Plan) -> str:
    return f"batchyard_{plan.name}_tokens"


def keys(plan: Plan) -> list[str]:
    """The lookup keys of a plan's prices."""
    return [monthly_key(plan), metered_key(plan)] if plan.overage_price else [monthly_key(plan)]


def find(plan: Plan) -> Prices:
    """Those that new subscriptions to the plan have. Raises Conflict where billing setup has not made them."""
    found = by_key(keys(plan))
    if any(key not in found for key in keys(plan)):
        raise Conflict(
            f"The plan {plan.name!r} cannot be bought yet: the operator has to run `billing setup`.",
            code="billing_not_set_up",
        )
    metered = found[metered_key(plan)].id if plan.overage_price else None
    return Prices(found[monthly_key(plan)].id, metered)


def by_key(wanted: list[str]) -> Mapping[str, "Price"]:
    """The prices that have these lookup keys now, with their tiers."""
    with stripe_api.calling() as stripe:
        found = stripe.v1.prices.list({"lookup_keys": wanted, "limit": 10, "expand": ["data.tiers"]})
    return {price.lookup_key: price for price in found.data if price.lookup_key is not None}
