"""Sliding windows: so many requests in so many seconds, of whoever is counted."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

# A window has 60 parts, and what is counted in one goes when the end of that part is 61 parts ago. So no time of a
# window's length has too many, wherever it lies, nor has it by the clock of a client whose line is a little slow.
PARTS = 60
PARTS_KEPT = 61
MAX_LOCAL_WINDOWS = 50_000
MINUTE = 60
DAY = 86_400


class Window(NamedTuple):
    """`limit` requests in `seconds` of whoever is counted under `key`. Who that is, `whose` says: a key, an account, an
    address, or a stranger, which is an address without a valid key."""

    key: str
    whose: str
    seconds: int
    limit: int


def window(whose: str, identity: str, seconds: int, limit: int) -> Window:
    """Another limit is another window: what a process holds of the old one means nothing in the new one."""
    return Window(f"{whose}:{identity}:{limit}/{seconds}", whose, seconds, limit)


class Left(NamedTuple):
    """How many requests a window still takes, and the seconds until it takes more: a full one, until it takes one."""

    window: Window
    remaining: int
    seconds: float


class Taken(NamedTuple):
    """Whether every window had room for the request, and what is left in each. One without room counts in none."""

    room: bool
    left: list[Left]


class LocalWindows:
    """The windows of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, deque[list[int]]] = {}

    def take(self, windows: Sequence[Window]) -> Taken:
        now = time.monotonic()
        with self._lock:
            if len(self._parts) > MAX_LOCAL_WINDOWS:
                self._parts.clear()
            sums = [self._sum(window, now) for window in windows]
            room = all(held < window.limit for held, window in zip(sums, windows, strict=True))
            left = []
            for held, window in zip(sums, windows, strict=True):
                if room:
                    self._add(window, now)
                remaining = max(0, window.limit - held - room)
                left.append(Left(window, remaining, self._seconds_until_more(window, now)))
        return Taken(room, left)

    def _sum(self, window: Window, now: float) -> int:
        parts = self._parts.setdefault(window.key, deque())
        oldest = _part(window, now) - PARTS_KEPT
        while parts and parts[0][0] < oldest:
            parts.popleft()
        return sum(number for _, number in parts)

    def _add(self, window: Window, now: float) -> None:
        parts = self._parts[window.key]
        part = _part(window, now)
        if not parts or parts[-1][0] != part:
            parts.append([part, 0])
        parts[-1][1] += 1

    def _seconds_until_more(self, window: Window, now: float) -> float:
        parts = self._parts[window.key]
        oldest = parts[0][0] if parts else _part(window, now)
        return (oldest + 1 + PARTS_KEPT) * window.seconds / PARTS - now


def _part(window: Window, now: float) -> int:
    return int(now * PARTS / window.seconds)
