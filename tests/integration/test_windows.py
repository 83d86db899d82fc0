"""Sliding windows: those that processes share in Redis, and those of a process that is alone."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from limits.storage import RedisStorage

from common import queue
from common.settings import settings as process
from common.shared_windows import KEY_PREFIX, PORTIONS_OF_A_LIMIT, SharedWindows
from common.windows import LocalWindows, Taken, Window, window

SECONDS = 2
HELD_UP_SECONDS = 0.02
WINDOW = Window("a", "key", SECONDS, 20)
Take = Callable[[Sequence[Window]], Taken]


def shared() -> Take:
    """The shared windows as one more process has them."""
    return SharedWindows(RedisStorage(process().redis_url)).take


@pytest.fixture(params=["shared", "local"])
def takes(request: pytest.FixtureRequest, settings: dict[str, str]) -> list[Take]:
    """Two processes that share the windows, or two threads of one that is alone."""
    return [shared(), shared()] if request.param == "shared" else [LocalWindows().take] * 2


def hammer(take: Take, window: Window, seconds: float) -> tuple[list[tuple[float, float]], float]:
    """When each request that had room was sent and answered, and the seconds added because the machine let nothing be
    sent in as many."""
    accepted = []
    last = time.monotonic()
    added, end = 0.0, last + seconds
    while (sent := time.monotonic()) < end + added:
        added += max(0.0, sent - last - HELD_UP_SECONDS)
        last = sent
        if take([window]).room:
            accepted.append((sent, time.monotonic()))
        # A client that asks as fast as it can would leave none of this machine to the other.
        time.sleep(0.002)
    return accepted, added


def test_no_time_of_its_length_has_more_than_the_limit_and_all_of_the_limit_is_used(takes: list[Take]) -> None:
    takes[0]([WINDOW])
    # The window lies badly for those who count by fixed ones: most of it comes late, and the next one's at once.
    time.sleep(SECONDS * 0.75)
    with ThreadPoolExecutor() as threads:
        both = list(threads.map(lambda take: hammer(take, WINDOW, SECONDS * 3.5), takes))
    accepted = list(chain.from_iterable(requests for requests, _ in both))
    added = max(seconds for _, seconds in both)
    sent, answered = (sorted(moments) for moments in zip(*accepted, strict=True))
    assert 4 * WINDOW.limit - 1 <= len(accepted) <= 4 * WINDOW.limit + 1 + WINDOW.limit * added / SECONDS
    spans = [last - first for first, last in zip(sent, answered[WINDOW.limit :], strict=False)]
    assert min(spans) >= SECONDS


def test_a_refused_request_has_room_when_it_was_told(takes: list[Take]) -> None:
    take, _ = takes
    while (taken := take([WINDOW])).room:
        pass
    assert taken.left[0].remaining == 0
    assert 0 < taken.left[0].seconds <= SECONDS * 62 / 60
    time.sleep(taken.left[0].seconds)
    assert take([WINDOW]).room


def test_a_refused_request_counts_in_no_window(takes: list[Take]) -> None:
    long = Window("b", "key", 86_400, 25)
    for take in takes * 20:
        taken = take([WINDOW, long])
    assert not taken.room
    assert [left.remaining for left in taken.left] == [0, 5]
    full = Window("c", "account", 60, 1)
    other = Window("d", "key", 60, 10)
    assert takes[0]([full]).room
    for _ in range(20):
        assert not takes[0]([other, full]).room
    assert takes[0]([other]).left[0].remaining == 9


def test_a_limit_that_is_lowered_or_raised_begins_anew(takes: list[Take]) -> None:
    for limit in (3_000_000, 2, 1, 3):
        rooms = [take([window("key", "g", 60, limit)]).room for take in takes * 2]
        assert rooms == [True] * min(limit, 4) + [False] * (4 - min(limit, 4))


def test_a_process_takes_a_thousandth_of_a_limit_at_once_and_all_together_never_take_more_than_it(
    settings: dict[str, str],
) -> None:
    large = Window("e", "key", 60, 20_000)
    processes = [shared(), shared()]
    processes[0]([large])
    portion = large.limit // PORTIONS_OF_A_LIMIT
    assert queue.redis().hget(KEY_PREFIX + large.key, "sum") == str(portion).encode()
    accepted = 1
    while any(rooms := [take([large]).room for take in processes]):
        accepted += sum(rooms)
    assert large.limit - portion <= accepted <= large.limit


def test_what_is_left_is_told_as_it_goes(takes: list[Take]) -> None:
    told = [takes[0]([Window("f", "key", 60, 3)]).left[0].remaining for _ in range(4)]
    assert told == [2, 1, 0, 0]


def test_a_hash_that_nobody_could_have_written_holds_up_nobody(settings: dict[str, str]) -> None:
    queue.redis().hset(KEY_PREFIX + WINDOW.key, mapping={"sum": 5, "oldest": 6})
    assert shared()([WINDOW]).left[0].remaining == WINDOW.limit - 1
