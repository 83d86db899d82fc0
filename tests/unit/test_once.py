"""What a process makes once is one thing for all its threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.once import Once

THREADS = 8


def test_threads_that_ask_at_once_get_the_same_thing_which_was_made_once() -> None:
    made: list[object] = []
    second = threading.Event()

    @Once
    def thing() -> object:
        made.append(object())
        if len(made) > 1:
            second.set()
        # Leaves another thread the time to come in.
        second.wait(0.2)
        return made[-1]

    together = threading.Barrier(THREADS)

    def ask() -> object:
        together.wait(10)
        return thing()

    with ThreadPoolExecutor(THREADS) as threads:
        given = [asked.result(10) for asked in [threads.submit(ask) for _ in range(THREADS)]]
    assert len(made) == 1
    assert given == made * THREADS
    assert thing.made() is made[0]


def test_an_error_is_raised_and_the_next_who_asks_tries_again() -> None:
    outcomes: list[object] = [ValueError("away"), "here"]

    @Once
    def thing() -> object:
        found = outcomes.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.raises(ValueError, match="away"):
        thing()
    assert thing.made() is None
    assert [thing(), thing()] == ["here", "here"]


def test_what_was_forgotten_is_made_anew() -> None:
    @Once
    def thing() -> object:
        return object()

    first = thing()
    thing.forget()
    assert thing.made() is None
    assert thing() is not first
