"""The stand-in for Stripe in a stack: started where no key is given, set up, and heard by web."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import stripe

from local.stack import Stack
from local.stripe.events import API_VERSION
from tests.stacks import own_stack
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def selling(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with own_stack(services, tmp_path_factory.mktemp("selling") / "home", workers=0, with_stripe=True) as stack:
        yield stack


def client(stack: Stack) -> stripe.StripeClient:
    return stripe.StripeClient(stack.env["STRIPE_SECRET_KEY"], base_addresses={"api": stack.env["STRIPE_API_BASE"]})


def deliveries(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx2.get(f"{stack.env['STRIPE_URL']}/_standin/deliveries").json()["deliveries"]
    return found


def test_a_stack_has_everything_there_that_it_sells_and_its_own_endpoint_alone(selling: Stack) -> None:
    v1 = client(selling).v1
    assert {product.id for product in v1.products.list().data} >= {"batchyard_pro", "batchyard_team"}
    (endpoint,) = v1.webhook_endpoints.list().data
    assert (endpoint.url, endpoint.api_version) == (f"{selling.base_url}/stripe/webhook", API_VERSION)


def test_web_takes_what_it_is_told(selling: Stack) -> None:
    client(selling).v1.customers.create({"email": "ada@example.com"})
    told = wait_for(
        lambda: [one for one in deliveries(selling) if one["type"] == "customer.created"],
        lambda found: bool(found) and all(one["state"] == "delivered" for one in found),
    )
    assert told[0]["told"] == "200"
