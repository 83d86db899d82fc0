"""The JSON of what an account pays for. As web/schemas.py."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from web.schemas import Money, Tokens, UnixSeconds, one_of


class SoldPlan(TypedDict):
    """A plan that can be bought: what a month costs, the tokens that this includes, and the price of a million over
    them."""

    name: str
    price: Money
    included_tokens: Tokens
    price_of_more_tokens: Money


class BilledSubscription(TypedDict):
    """The subscription that gives the plan or, where none does, the last one. The price is of a period, before what is
    metered; null where Stripe has not told it."""

    plan: str | None
    price: Money | None
    period_start: UnixSeconds | None
    period_end: UnixSeconds | None
    cancels_at: UnixSeconds | None


class Billing(TypedDict):
    """How an account stands. `enabled` is whether anything is sold here; `grace_until` is when a plan ends for which a
    payment has failed."""

    object: Annotated[str, one_of("billing")]
    enabled: bool
    plan: str
    state: Annotated[str, one_of("none", "active", "cancelling", "past_due", "unpaid", "ended")]
    subscription: BilledSubscription | None
    grace_until: UnixSeconds | None
    plans: list[SoldPlan]


class BillingPage(TypedDict):
    """A page of Stripe's for a browser to go to, soon."""

    object: Annotated[str, one_of("billing.page")]
    url: Annotated[str, Field(pattern="^https?://")]
