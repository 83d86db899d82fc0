"""Calls that come at once are done together: each has its own outcome, and none waits for another key's."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from common import grouped
from common.grouped import Grouped
from tests.waiting import wait_for

AT_ONCE = 8


class Doing:
    """Doubles numbers, each group as soon as the test lets it, and keeps what was done."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, list[int]]] = []
        self.afterwards: list[str] = []
        self.may_go_on = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()
        self.grouped = Grouped(self._do, self._afterwards)

    def _do(self, key: str, items: Sequence[int]) -> list[int]:
        self.groups.append((key, sorted(items)))
        assert self.may_go_on.acquire(timeout=10)
        if -1 in items:
            raise ValueError("not this one")
        return [2 * item for item in items]

    def _afterwards(self, key: str) -> None:
        assert self.may_end.wait(10)
        self.afterwards.append(key)


@pytest.fixture
def doing() -> Doing:
    return Doing()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE + 1) as threads:
        yield threads


def at_once(doing: Doing, threads: ThreadPoolExecutor, items: Sequence[int]) -> list["Future[int]"]:
    """The first of them is being done, and the others wait for it."""
    first = threads.submit(doing.grouped.go, "key", items[0])
    wait_for(lambda: len(doing.groups), lambda found: found == 1)
    others = [threads.submit(doing.grouped.go, "key", item) for item in items[1:]]
    wait_for(lambda: len(doing.grouped._lines["key"]), lambda found: found == len(others))
    return [first, *others]


def test_all_that_came_while_one_was_done_are_done_after_it_in_one_go(
    doing: Doing, threads: ThreadPoolExecutor
) -> None:
    calls = at_once(doing, threads, range(AT_ONCE))
    doing.may_go_on.release(2)
    assert [call.result(timeout=10) for call in calls] == [2 * item for item in range(AT_ONCE)]
    assert doing.groups == [("key", [0]), ("key", [*range(1, AT_ONCE)])]
    assert doing.afterwards == ["key", "key"]
    # Nobody is there any more: the next is done at once, by itself.
    doing.may_go_on.release()
    assert doing.grouped.go("key", 5) == 10


def test_who_comes_before_a_group_begins_is_in_it_where_the_one_before_was_of_several(
    doing: Doing, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[Future[int]] = []

    def another_comes() -> None:
        waiting = len(doing.grouped._lines["key"])
        came.append(threads.submit(doing.grouped.go, "key", 10))
        wait_for(lambda: len(doing.grouped._lines["key"]), lambda found: found == waiting + 1)

    monkeypatch.setattr(grouped, "_let_others_run", another_comes)
    doing.may_go_on.release(4)
    # By itself, as what came before it: for nobody.
    assert doing.grouped.go("key", 0) == 0
    assert doing.grouped.go("key", 1) == 2
    doing.grouped._crowded = True
    assert doing.grouped.go("key", 2) == 4
    assert [call.result(timeout=10) for call in came] == [20]
    assert doing.groups == [("key", [0]), ("key", [1]), ("key", [2, 10])]


def test_a_group_of_several_tells_of_a_crowd_and_one_alone_of_none(doing: Doing, threads: ThreadPoolExecutor) -> None:
    calls = at_once(doing, threads, [1, 2, 3])
    doing.may_go_on.release(2)
    assert [call.result(timeout=10) for call in calls] == [2, 4, 6]
    assert doing.grouped._crowded
    doing.may_go_on.release()
    assert doing.grouped.go("key", 4) == 8
    assert not doing.grouped._crowded


def test_what_is_done_afterwards_keeps_only_the_first_of_a_group_waiting(
    doing: Doing, threads: ThreadPoolExecutor
) -> None:
    doing.may_end.clear()
    calls = at_once(doing, threads, [1, 2, 3])
    doing.may_go_on.release(2)
    assert calls[2].result(timeout=10) == 6
    assert not calls[0].done()
    assert not calls[1].done()
    doing.may_end.set()
    assert [call.result(timeout=10) for call in calls] == [2, 4, 6]


def test_another_key_does_not_wait(doing: Doing, threads: ThreadPoolExecutor) -> None:
    calls = at_once(doing, threads, [1, 2])
    other = threads.submit(doing.grouped.go, "another", 3)
    wait_for(lambda: len(doing.groups), lambda found: found == 2)
    assert doing.groups == [("key", [1]), ("another", [3])]
    doing.may_go_on.release(3)
    assert [call.result(timeout=10) for call in [*calls, other]] == [2, 4, 6]


def test_an_error_is_that_of_its_group_and_the_next_is_done_all_the_same(
    doing: Doing, threads: ThreadPoolExecutor
) -> None:
    calls = at_once(doing, threads, [1, -1, 2])
    doing.may_go_on.release()
    assert calls[0].result(timeout=10) == 2
    wait_for(lambda: len(doing.groups), lambda found: found == 2)
    later = threads.submit(doing.grouped.go, "key", 4)
    wait_for(lambda: len(doing.grouped._lines["key"]), lambda found: found == 1)
    assert not wait(calls[1:], timeout=0).done
    doing.may_go_on.release(2)
    for call in calls[1:]:
        with pytest.raises(ValueError, match="not this one"):
            call.result(timeout=10)
    assert later.result(timeout=10) == 8
    # After the group that failed there was nothing to do afterwards.
    assert doing.afterwards == ["key", "key"]
