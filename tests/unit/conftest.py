"""What the unit tests share: no deadline for a property's example, and the simulated provider's process."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.provider_process import Provider, running_provider

# A property is right or wrong; how long an example takes on a busy machine says nothing about it.
settings.register_profile("batchyard", deadline=None)
settings.load_profile("batchyard")


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    return shared_provider.at_rest()
