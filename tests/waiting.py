"""Waiting for what happens elsewhere: looking again until a deadline, never sleeping for a guessed time; and how long
something took."""

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

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


class Stopwatch:
    """Seconds since it was made, without those of a CPU that the host of a virtual machine gave to others meanwhile, as
    far as the kernel tells (`steal`): for what may take only so long on a machine that runs."""

    def __init__(self) -> None:
        self._began = self._now()

    @property
    def seconds(self) -> float:
        return self._now() - self._began

    @staticmethod
    def _now() -> float:
        return time.monotonic() - getattr(psutil.cpu_times(), "steal", 0.0)
