"""What the unit tests share: the processes of the simulated provider and of the stand-in for Stripe."""

from collections.abc import Iterator

import pytest

from tests.provider_process import Provider, running_provider
from tests.stripe_process import StandIn, running_standin
from tests.stripe_shop import Shop


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    return shared_provider.at_rest()


@pytest.fixture(scope="module")
def shared_standin() -> Iterator[StandIn]:
    with running_standin() as standin:
        yield standin


@pytest.fixture
def standin(shared_standin: StandIn) -> StandIn:
    """One where nothing goes wrong until a test wants it."""
    shared_standin.admin("PUT", "settings")
    return shared_standin


@pytest.fixture
def shop(standin: StandIn) -> Shop:
    return Shop(standin)
