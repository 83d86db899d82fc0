"""How requests that share a thread take turns."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from common import shared_thread

told: ContextVar[str] = ContextVar("told", default="nothing")


class Turns:
    """How often others were let go on, and native threads that are told apart by their name."""

    def __init__(self) -> None:
        self.given = 0
        self.threads = ThreadPoolExecutor(1, "native")

    def let_others(self) -> None:
        self.given += 1

    def have_done(self, work: shared_thread.Work) -> None:
        self.threads.submit(work).result(timeout=10)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    """As in a process whose requests share a thread."""
    shared = Turns()
    for name in ("_let_others", "_have_done"):
        monkeypatch.setattr(shared_thread, name, None)
    shared_thread.use(shared.let_others, shared.have_done)
    with shared.threads:
        yield shared


def name() -> str:
    return threading.current_thread().name.partition("_")[0]


def test_what_computes_for_long_lets_others_go_on_once_its_turn_is_over(
    shared: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(shared_thread, "monotonic", lambda: now)
    shared_thread.let_others_go_on()
    for _ in range(1_000):
        shared_thread.let_others_go_on()
    assert shared.given == 1
    now += shared_thread.TURN_SECONDS * 1.5
    shared_thread.let_others_go_on()
    assert shared.given == 2


def test_what_runs_in_a_native_thread_takes_no_turn_from_anybody(shared: Turns) -> None:
    shared_thread.in_native_thread(shared_thread.let_others_go_on)
    assert shared.given == 0
    shared_thread.let_others_go_on()
    assert shared.given == 1


def test_work_for_a_native_thread_is_done_in_one_and_what_it_needs_of_that_in_the_same(shared: Turns) -> None:
    assert shared_thread.in_native_thread(name) == "native"
    # The only thread there is would wait for itself.
    assert shared_thread.in_native_thread(shared_thread.in_native_thread, name) == "native"
    assert name() != "native"


def test_work_in_a_native_thread_knows_its_request_and_its_errors_are_the_request_s(shared: Turns) -> None:
    token = told.set("its request")
    assert shared_thread.in_native_thread(told.get) == "its request"
    told.reset(token)
    with pytest.raises(ZeroDivisionError):
        shared_thread.in_native_thread(lambda: 1 // 0)


def test_where_no_thread_is_shared_work_is_simply_done(monkeypatch: pytest.MonkeyPatch) -> None:
    for shared in ("_let_others", "_have_done"):
        monkeypatch.setattr(shared_thread, shared, None)
    shared_thread.let_others_go_on()
    assert shared_thread.in_native_thread(name) == name()
