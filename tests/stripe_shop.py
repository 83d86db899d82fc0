"""A shop at the stand-in for Stripe, as its tests want one: a meter, plans, customers with a clock, and its pages."""

import itertools
import re
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlencode, urlsplit

import stripe

from tests.stripe_process import StandIn

# 15 January 2027, 10:00 UTC: no month's end is near.
START = 1_800_007_200
HOUR, DAY = 3_600, 86_400
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Plan:
    product: str
    licensed: str
    metered: str

    @property
    def items(self) -> list[stripe.params.SubscriptionCreateParamsItem]:
        return [{"price": self.licensed}, {"price": self.metered}]


@dataclass(frozen=True)
class Page:
    """What a browser without JavaScript would know of an answer."""

    status: int
    headers: dict[str, str]
    text: str

    def said(self, role: str) -> list[str]:
        return [unescape(found) for found in re.findall(rf'<p role="{role}">(.*?)</p>', self.text)]

    @property
    def buttons(self) -> list[str]:
        return [unescape(found) for found in re.findall(r"<button[^>]*>(.*?)</button>", self.text)]


class Shop:
    """Its meter counts what no other shop's does."""

    def __init__(self, standin: StandIn) -> None:
        self.standin = standin
        self.v1 = standin.client().v1
        self.event_name = f"tokens_{next(_numbers)}"
        self.meter = self.v1.billing.meters.create(
            {"display_name": "Tokens", "event_name": self.event_name, "default_aggregation": {"formula": "sum"}}
        ).id

    def plan(self, name: str = "Pro", cents: int = 4_900, included: int = 1_000, over: str = "0.5") -> Plan:
        """`over` is what a token over the included ones costs, in cents."""
        product = self.v1.products.create({"name": name}).id
        licensed = self.v1.prices.create(
            {"product": product, "currency": "usd", "unit_amount": cents, "recurring": {"interval": "month"}}
        )
        metered = self.v1.prices.create(
            {
                "product": product,
                "currency": "usd",
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": [{"up_to": included, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": over}],  # type: ignore[typeddict-item]
                "recurring": {"interval": "month", "usage_type": "metered", "meter": self.meter},
            }
        )
        return Plan(product, licensed.id, metered.id)

    def customer(self, start: int = START) -> tuple[str, str]:
        """A customer and its clock."""
        clock = self.v1.test_helpers.test_clocks.create({"frozen_time": start}).id
        return self.v1.customers.create({"email": "ada@example.com", "test_clock": clock}).id, clock

    def subscribe(self, customer: str, plan: Plan) -> str:
        return self.v1.subscriptions.create({"customer": customer, "items": plan.items}).id

    def use(self, customer: str, tokens: int, at: int | None = None, identifier: str | None = None) -> None:
        params: stripe.params.billing.MeterEventCreateParams = {
            "event_name": self.event_name,
            "payload": {"stripe_customer_id": customer, "value": str(tokens)},
        }
        if at is not None:
            params["timestamp"] = at
        if identifier is not None:
            params["identifier"] = identifier
        self.v1.billing.meter_events.create(params)

    def advance(self, clock: str, to: int) -> None:
        self.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": to})

    def period_end(self, subscription: str) -> int:
        return int(self.v1.subscriptions.retrieve(subscription)["items"].data[0].current_period_end)

    def invoices(self, customer: str) -> list[stripe.Invoice]:
        """The oldest first."""
        return [*reversed(self.v1.invoices.list({"customer": customer, "limit": 100}).data)]

    def events(self, customer: str) -> list[stripe.Event]:
        """Those of a customer, in the order in which they came to be."""
        found = reversed([*self.v1.events.list({"limit": 100}).auto_paging_iter()])
        return [event for event in found if customer in (event.data.object["id"], _customer_of(event))]

    def see(self, url: str) -> Page:
        return self._page("GET", url)

    def press(self, url: str, action: str, **fields: str) -> Page:
        """Presses the button of that value."""
        return self._page("POST", url, urlencode({**fields, "action": action}))

    def _page(self, method: str, url: str, form: str | None = None) -> Page:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        status, headers, content = self.standin.ask(method, path, form, FORM if form is not None else None)
        return Page(status, {**headers}, content.decode())


def _customer_of(event: stripe.Event) -> object:
    return event.data.object.to_dict().get("customer")
