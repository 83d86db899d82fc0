"""A provider's limits, kept by three workers together: as many calls as it permits, and hardly one that it refuses.

PROVIDER_LIMIT_SECONDS=180 runs it as long as an operator would look.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local.stack import Stack
from tests.customer import Customer
from tests.stacks import own_stack
from tests.waiting import wait_for

SECONDS = float(os.environ.get("PROVIDER_LIMIT_SECONDS", "10"))
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 600, 300_000
SETTLES_SECONDS = min(20.0, SECONDS)
MODELS = f"""
[models."*"]
requests_per_minute = {REQUESTS_PER_MINUTE}
tokens_per_minute = {TOKENS_PER_MINUTE}
"""


@pytest.fixture
def limited_stack(services: Stack, tmp_path: Path) -> Iterator[Stack]:
    """Three workers, and a file that knows the provider's limits."""
    models = tmp_path / "models.toml"
    models.write_text(MODELS)
    with own_stack(services, tmp_path / "home", workers=3, MODELS_FILE=models) as running:
        yield running


class Watched:
    """The provider's settings and counts."""

    def __init__(self, stack: Stack) -> None:
        self._address = stack.env["PROVIDER_URL"].removesuffix("/v1") + "/_sim/"

    def set(self, **settings: Any) -> None:
        httpx2.post(self._address + "settings", json=settings, trust_env=False).raise_for_status()

    def by_status(self) -> dict[str, int]:
        found: dict[str, int] = httpx2.get(self._address + "calls", trust_env=False).json()["by_status"]
        return found

    def within(self, seconds: float) -> tuple[int, int]:
        """Calls answered and calls refused in so many seconds from now."""
        before, began = self.by_status(), time.monotonic()
        wait_for(time.monotonic, lambda now: now - began >= seconds, seconds + 5)
        after = self.by_status()
        answered, refused = (after.get(status, 0) - before.get(status, 0) for status in ("200", "429"))
        return answered, refused


def test_three_workers_make_the_calls_that_a_provider_permits_and_settle_when_it_permits_fewer(
    limited_stack: Stack,
) -> None:
    provider = Watched(limited_stack)
    provider.set(rpm=REQUESTS_PER_MINUTE, tpm=TOKENS_PER_MINUTE, tokens=400, latency=0.5)
    rows = int((2 * SECONDS + SETTLES_SECONDS + 60) * REQUESTS_PER_MINUTE / 60)
    content = b"text\n" + b"".join(b"row %d\n" % number for number in range(rows))
    with Customer(limited_stack.base_url, limited_stack.env["API_KEY"]) as customer:
        customer.create_batch(content, model="sim", max_tokens="1000")
    wait_for(lambda: provider.by_status().get("200", 0), lambda answered: answered > 0)

    answered, refused = provider.within(SECONDS)
    permitted = REQUESTS_PER_MINUTE * SECONDS / 60
    print(f"{SECONDS:g} s: {answered} answered of {permitted:g} permitted, {refused} refused")
    assert answered >= 0.95 * permitted
    assert refused < 0.01 * answered

    provider.set(rpm=REQUESTS_PER_MINUTE // 2)
    provider.within(SETTLES_SECONDS)
    answered, refused = provider.within(SECONDS)
    print(f"halved: {answered} answered of {permitted / 2:g} permitted, {refused} refused")
    assert answered >= 0.95 * permitted / 2
    assert refused <= 0.01 * answered
