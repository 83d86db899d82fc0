"""The windows that all web processes share, in Redis; while Redis is away, each process counts its part by itself."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from limits.storage import RedisStorage, StorageTypes
from limits.strategies import STRATEGIES, SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from common.settings import settings
from common.windows import Left, LocalWindows, Taken, Window

log = logging.getLogger(__name__)

STRATEGY = "shared-windows"
KEY_PREFIX = "batchyard:window:"
LOOK_AGAIN_SECONDS = 1.0
# A process takes this share of a window's limit from Redis at once, and counts it down by itself. So limits below 2,000
# are exact, others are passed by a thousandth for each process at the most, and most requests ask Redis nothing.
PORTIONS_OF_A_LIMIT = 1_000
MAX_PORTIONS = 50_000
TAKE = Path(__file__).with_name("windows.lua").read_bytes()
REDIS_SECONDS = 0.5


def storage_url() -> str:
    """Redis, as the library of the windows' storage names it."""
    return settings().redis_url.replace("unix://", "redis+unix://", 1)


def storage_options() -> dict[str, Any]:
    """How it is asked: what is killed refuses at once; what only stands still must not hold up a request for longer
    than this."""
    once_more_where_closed = Retry(NoBackoff(), 1, (RedisConnectionError,))
    return {
        "socket_timeout": REDIS_SECONDS,
        "socket_connect_timeout": REDIS_SECONDS,
        "retry": once_more_where_closed,
    }


@dataclass(slots=True)
class _Portion:
    """What this process has taken from a window and not used: counted already, so that losing it exceeds nothing."""

    number: int = 0
    remaining: int = 0
    more_at: float = 0.0


class SharedWindows(SlidingWindowCounterRateLimiter):
    """A strategy for Flask-Limiter. The one of this kind that it has weighs the sum of the last window by time, which
    lets half as much again through in a window that lies badly, and asks Redis for each limit of a request by itself:
    where the second refuses, the first has counted. Here all windows of a request are one question, or none."""

    def __init__(self, storage: StorageTypes) -> None:
        super().__init__(storage)
        assert isinstance(storage, RedisStorage)
        self._take_in_redis = storage.get_connection().register_script(TAKE)
        self._lock = threading.Lock()
        self._portions: dict[str, _Portion] = {}
        self._local = LocalWindows()
        self._look_again_at = 0.0
        self.shared = True

    def take(self, windows: Sequence[Window]) -> Taken:
        """Counts a request in all of these windows, or in none."""
        if self.shared or (self._may_look() and self.look()):
            try:
                return self._take(windows)
            except RedisError as error:
                self._alone(error)
        processes = settings().web_processes
        return self._local.take([window._replace(limit=max(1, window.limit // processes)) for window in windows])

    def look(self) -> bool:
        """Asks Redis whether it is there, and goes by its answer from now on."""
        if not self.storage.check():
            self._alone(None)
        elif not self.shared:
            with self._lock:
                self.shared, self._local = True, LocalWindows()
            log.warning("Redis answers again: rate limits hold for all processes together")
        return self.shared

    def _may_look(self) -> bool:
        """Once in a while one request may: where Redis is slow to fail, the others need not wait with it."""
        with self._lock:
            now = time.monotonic()
            may = now >= self._look_again_at
            if may:
                self._look_again_at = now + LOOK_AGAIN_SECONDS
        return may

    def _alone(self, error: RedisError | None) -> None:
        with self._lock:
            was_shared, self.shared = self.shared, False
            if was_shared:
                self._look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
        if was_shared:
            log.error("Redis does not answer: each process limits by itself", extra={"error": str(error)})

    def _take(self, windows: Sequence[Window]) -> Taken:
        room = False
        with self._lock:
            portions = [self._portion(window) for window in windows]
            used_up = [at for at, portion in enumerate(portions) if portion.number <= 0]
            for portion in portions:
                portion.number -= 1
        try:
            room = not used_up or self._fetch([windows[at] for at in used_up], [portions[at] for at in used_up])
        finally:
            if not room:
                with self._lock:
                    for portion in portions:
                        portion.number += 1
        now = time.monotonic()
        return Taken(room, [_left(*pair, now) for pair in zip(windows, portions, strict=True)])

    def _portion(self, window: Window) -> _Portion:
        portion = self._portions.get(window.key)
        if portion is None:
            if len(self._portions) >= MAX_PORTIONS:
                self._portions.clear()
            portion = self._portions[window.key] = _Portion()
        return portion

    def _fetch(self, windows: Sequence[Window], portions: Sequence[_Portion]) -> bool:
        """Takes a portion of each from Redis, or none of any. Raises RedisError."""
        keys = [KEY_PREFIX + window.key for window in windows]
        wanted = [(window.seconds, window.limit, max(1, window.limit // PORTIONS_OF_A_LIMIT)) for window in windows]
        taken, *answer = self._take_in_redis(keys, list(chain.from_iterable(wanted)))
        now = time.monotonic()
        with self._lock:
            for at, portion in enumerate(portions):
                number, portion.remaining, milliseconds = answer[at * 3 : at * 3 + 3]
                portion.number += number
                portion.more_at = now + milliseconds / 1000
        return bool(taken)


def _left(window: Window, portion: _Portion, now: float) -> Left:
    return Left(window, portion.remaining + max(0, portion.number), max(0.0, portion.more_at - now))


STRATEGIES[STRATEGY] = SharedWindows
