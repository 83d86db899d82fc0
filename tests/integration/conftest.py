"""For tests of what Stripe is told and tells: the stand-in, and this process as one that sells."""

from collections.abc import Iterator

import pytest

from tests.process_settings import process_settings
from tests.stripe_process import KEY, StandIn, make_meter, running_standin


@pytest.fixture(scope="session")
def standin() -> Iterator[StandIn]:
    """A stand-in that tests share, with the meter."""
    with running_standin() as running:
        make_meter(running)
        yield running


@pytest.fixture
def billing_on(settings: dict[str, str], standin: StandIn) -> Iterator[None]:
    """The test's own process sells, and its Stripe is the stand-in, which fails nothing to begin with."""
    standin.admin("PUT", "settings")
    billing = {"STRIPE_SECRET_KEY": KEY, "STRIPE_API_BASE": standin.url, "METER_EVENTS_PER_SECOND": "1000"}
    with process_settings(settings | billing):
        yield


@pytest.fixture
def stripe_customer(billing_on: None, standin: StandIn) -> str:
    """A new customer of the stand-in's, to which this process sells."""
    return standin.client().v1.customers.create({"name": "Ann"}).id
