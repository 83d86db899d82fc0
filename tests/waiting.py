"""Waiting for what happens elsewhere: looking again until a deadline, never sleeping for a guessed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05
# For a busy machine: to wait for what comes costs nothing.
LONGEST_SECONDS = 90.0


def wait_for(look: Callable[[], T], done: Callable[[T], bool], seconds: float = LONGEST_SECONDS) -> T:
    """What `look` gives as soon as it is `done`. Fails, showing the last look, when it is not in time."""
    deadline = time.monotonic() + seconds
    while not done(found := look()):
        assert time.monotonic() < deadline, f"not so within {seconds:g} s; the last look gave {found!r}"
        # Between two looks.
        time.sleep(POLL_SECONDS)
    return found
