"""What the unit tests share: the simulated provider's process."""

from collections.abc import Iterator

import pytest

from tests.provider_process import Provider, running_provider


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    return shared_provider.at_rest()
