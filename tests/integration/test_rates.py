"""The limits that all workers keep together, against a real Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from common import queue
from common.providers import Limits
from common.settings import settings as settings_of_process
from worker.rates import KEY, USED_SHARE, Granted, Rates, Told

T = TypeVar("T")
MODEL = "default/fast"


def run(act: Callable[[Callable[..., Rates]], Awaitable[T]]) -> T:
    """Runs it with a maker of rates: one for each name of a process."""

    async def with_redis() -> T:
        connection = queue.connect_async()
        try:
            return await act(
                lambda process, *scopes, **limits: Rates(
                    connection, process, [*scopes, (MODEL, Limits.model_validate(limits))]
                )
            )
        finally:
            await connection.aclose()

    return asyncio.run(with_redis())


async def granted_within(seconds: float, *processes: Rates, tokens: int = 1) -> tuple[int, float]:
    """How many calls they are granted together when each asks for more all the time, each of which ends at once; and in
    how many seconds, which are more where the machine was held up."""
    total = 0
    began = time.monotonic()
    until = began + seconds

    async def ask(rates: Rates) -> None:
        nonlocal total
        while time.monotonic() < until:
            granted = await rates.acquire([tokens] * 20)
            total += granted.calls
            for _ in range(granted.calls):
                rates.settle(0, None)
            await asyncio.sleep(max(0.001, min(granted.wait, until - time.monotonic())))

    await asyncio.gather(*(ask(rates) for rates in processes))
    return total, time.monotonic() - began


@pytest.mark.usefixtures("settings")
def test_processes_together_begin_as_many_calls_as_the_limit_allows_and_no_more() -> None:
    async def three(make: Callable[..., Rates]) -> tuple[int, float]:
        return await granted_within(3.0, *(make(name, requests_per_minute=1200) for name in ("a", "b", "c")))

    # 20 a second, and a second's worth at once.
    granted, seconds = run(three)
    assert 0.8 * 3 * 20 <= granted <= (seconds + 1) * 20 + 1


@pytest.mark.usefixtures("settings")
def test_tokens_are_a_limit_of_their_own_and_what_was_not_used_is_given_back() -> None:
    async def one(make: Callable[..., Rates]) -> tuple[int, float, int]:
        rates = make("a", tokens_per_minute=60_000)
        spent, seconds = await granted_within(2.0, rates, tokens=500)
        returned = 0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            granted = await rates.acquire([500])
            returned += granted.calls
            if granted.calls:
                rates.settle(450, None)
            await asyncio.sleep(granted.wait or 0.001)
        return spent, seconds, returned

    # 1,000 a second: two calls of 500, or twenty that use 50.
    spent, seconds, returned = run(one)
    assert 4 <= spent <= 2 * (seconds + 2)
    assert returned >= 3 * spent


@pytest.mark.usefixtures("settings")
def test_what_a_provider_tells_one_process_holds_for_all() -> None:
    async def two(make: Callable[..., Rates]) -> tuple[int, float]:
        first, second = make("a", requests_per_minute=6000), make("b", requests_per_minute=6000)
        await first.acquire([1])
        first.settle(0, Told(requests_per_minute=300, requests_remaining=5))
        await asyncio.sleep(0.1)
        return await granted_within(2.0, first, second)

    granted, seconds = run(two)
    assert 5 <= granted <= (seconds + 1) * 5 + 1


@pytest.mark.usefixtures("settings")
def test_a_provider_that_wants_no_call_for_a_time_gets_none_from_anybody() -> None:
    async def two(make: Callable[..., Rates]) -> tuple[Granted, int]:
        first, second = make("a", requests_per_minute=6000), make("b", requests_per_minute=6000)
        await first.acquire([1])
        first.settle(0, Told(wait_seconds=15, refused=True))
        await asyncio.sleep(0.1)
        refused = await second.acquire([1])
        in_the_next_second, _ = await granted_within(1.0, first, second)
        return refused, in_the_next_second

    refused, in_the_next_second = run(two)
    assert refused.calls == 0
    assert refused.wait > 0.5
    assert in_the_next_second == 0


@pytest.mark.usefixtures("settings")
def test_a_provider_that_refuses_without_telling_its_limits_is_called_less() -> None:
    async def one(make: Callable[..., Rates]) -> tuple[int, int]:
        rates = make("a", requests_per_minute=1200)
        before, _ = await granted_within(2.0, rates)
        for _ in range(2):
            await rates.acquire([1])
            rates.settle(0, Told(refused=True))
            # Refusals that follow each other closely are one wave.
            await asyncio.sleep(2.1)
        await granted_within(1.0, rates)
        after, _ = await granted_within(2.0, rates)
        return before, after

    before, after = run(one)
    assert after < 0.75 * before


@pytest.mark.usefixtures("settings")
def test_calls_in_flight_are_counted_over_all_processes_and_a_dead_ones_are_forgotten() -> None:
    async def two(make: Callable[..., Rates]) -> tuple[int, int, int, int]:
        first, second = make("a", concurrency=10), make("b", concurrency=10)
        taken = (await first.acquire([1] * 7)).calls, (await second.acquire([1] * 7)).calls
        first.settle(0, None)
        await asyncio.sleep(0.1)
        after_one_ended = (await second.acquire([1] * 7)).calls
        # The first has died: nothing was heard of it for longer than a process is remembered.
        queue.redis().hset(KEY + MODEL, "seen:a", "0")
        return *taken, after_one_ended, (await second.acquire([1] * 7)).calls

    assert run(two) == (7, 3, 1, 6)


@pytest.mark.usefixtures("settings")
def test_a_providers_limit_holds_for_all_of_its_models_and_each_models_for_itself() -> None:
    async def one(make: Callable[..., Rates]) -> tuple[int, int]:
        provider = ("second", Limits(concurrency=3))
        return (await make("a", provider, concurrency=2).acquire([1] * 5)).calls, (
            await make("b", provider, concurrency=2).acquire([1] * 5)
        ).calls

    # The second process finds the model's two places taken, though the provider has a third.
    assert run(one) == (2, 0)


def test_without_redis_a_process_keeps_to_its_share(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def one(make: Callable[..., Rates]) -> tuple[int, float]:
        return await granted_within(2.0, make("a", requests_per_minute=600))

    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    settings_of_process.cache_clear()
    granted, seconds = run(one)
    assert 15 <= granted <= (seconds + 1) * 10 * USED_SHARE + 2
