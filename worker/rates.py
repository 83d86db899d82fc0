"""The rate limits of one model of a provider, kept by all workers together in Redis: one script asks for the calls that
wait, and one tells how calls ended. While Redis is away each process keeps to its share.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.providers import Limits

log = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("rates.lua").read_bytes()
KEY = "batchyard:rate:"
ASK_AT_ONCE = 100
MAX_WAIT_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
# How long a Redis that did not answer is left alone.
QUIET_SECONDS = 1.0
USED_SHARE = 0.98


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer said of the provider's limits; -1 where it said nothing."""

    requests_per_minute: int = -1
    tokens_per_minute: int = -1
    requests_remaining: int = -1
    tokens_remaining: int = -1
    # In which it wants no call.
    wait_seconds: float = 0.0
    refused: bool = False

    @property
    def limits(self) -> bool:
        return self.requests_per_minute > 0 or self.tokens_per_minute > 0


class Granted(NamedTuple):
    """How many of the calls asked for may go, and the seconds until the next may."""

    calls: int
    wait: float


class Rates:
    """Of one model, for one event loop. `scopes` are the limits of its provider and its own, by their names."""

    def __init__(self, connection: Redis, process: str, scopes: Sequence[tuple[str, Limits]]) -> None:
        self._connection = connection
        self._process = process
        self._keys = [KEY + name for name, _ in scopes]
        self._limits = [limits for _, limits in scopes]
        self._numbers = [number for limits in self._limits for number in _numbers(limits)]
        self._script = connection.register_script(SCRIPT)
        self._share = _Share(self._limits)
        self._processes = 1
        self._in_flight = 0
        self._quiet_until = 0.0
        self._settled_at = 0.0
        self._ended = 0
        self._tokens = 0
        self._told: list[Told] = []
        self._settling: asyncio.Task[None] | None = None

    async def acquire(self, tokens: Sequence[int]) -> Granted:
        """Asks for calls of so many tokens each, in this order."""
        asked = tokens[:ASK_AT_ONCE]
        found = await self._run("acquire", asked)
        if found is None:
            granted = self._share.take(asked, self._processes)
        else:
            calls, milliseconds, self._processes = found
            granted = Granted(calls, min(MAX_WAIT_SECONDS, milliseconds / 1000))
        self._in_flight += granted.calls
        return granted

    def settle(self, tokens: int, told: Told | None) -> None:
        """One call ended; `tokens` are given back, or taken where it used more than it asked for."""
        self._in_flight -= 1
        self._ended += 1
        self._tokens += tokens
        if told is not None:
            self._told.append(told)
            self._share.told(told)
        self._flush()

    @property
    def in_use(self) -> bool:
        return self._in_flight > 0

    def keep_alive(self) -> None:
        """Calls in flight are counted as long as their process is heard of."""
        if self.in_use and time.monotonic() - self._settled_at > HEARTBEAT_SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        while True:
            self._settled_at = time.monotonic()
            ended, tokens, told = self._ended, self._tokens, _together(self._told)
            self._ended, self._tokens, self._told = 0, 0, []
            wait = math.ceil(told.wait_seconds * 1000)
            of_limits = [told.requests_per_minute, told.tokens_per_minute]
            remaining = [told.requests_remaining, told.tokens_remaining]
            await self._run("settle", [ended, tokens, *of_limits, *remaining, wait, int(told.refused)])
            if not self._ended:
                return

    async def _run(self, act: str, arguments: Sequence[int]) -> tuple[int, int, int] | None:
        now = time.monotonic()
        if now < self._quiet_until:
            return None
        try:
            calls, milliseconds, processes = await self._script(
                self._keys, [act, self._process, *self._numbers, *arguments]
            )
        except RedisError as error:
            self._quiet_until = now + QUIET_SECONDS
            log.warning("Redis is away: a provider's limits are kept by process", extra={"error": str(error)})
            return None
        return int(calls), int(milliseconds), int(processes)


def _numbers(limits: Limits) -> tuple[int, int, int]:
    return limits.requests_per_minute or 0, limits.tokens_per_minute or 0, limits.concurrency or 0


def _together(told: Sequence[Told]) -> Told:
    """What several answers said: the last limits, the least that remains, the longest wait."""
    limits = next((one for one in reversed(told) if one.limits), Told())
    return Told(
        limits.requests_per_minute,
        limits.tokens_per_minute,
        min((one.requests_remaining for one in told if one.requests_remaining >= 0), default=-1),
        min((one.tokens_remaining for one in told if one.tokens_remaining >= 0), default=-1),
        max((one.wait_seconds for one in told), default=0.0),
        any(one.refused for one in told),
    )


class _Share:
    """What one process may do by itself: an equal share of the limits."""

    def __init__(self, limits: Sequence[Limits]) -> None:
        self._requests = min((one.requests_per_minute or math.inf for one in limits), default=math.inf)
        self._tokens = min((one.tokens_per_minute or math.inf for one in limits), default=math.inf)
        self._next_at = 0.0

    def told(self, told: Told) -> None:
        if told.requests_per_minute > 0:
            self._requests = min(self._requests, told.requests_per_minute)
        if told.tokens_per_minute > 0:
            self._tokens = min(self._tokens, told.tokens_per_minute)

    def take(self, tokens: Sequence[int], processes: int) -> Granted:
        """As many as are due, one after the other: each at the pace of the tighter limit."""
        now = time.monotonic()
        self._next_at = max(self._next_at, now - 1)
        calls = 0
        for amount in tokens:
            if self._next_at > now:
                break
            pace = max(1 / self._requests, amount / self._tokens) * 60 * processes / USED_SHARE
            self._next_at += pace
            calls += 1
        wait = min(MAX_WAIT_SECONDS, max(0.0, self._next_at - now))
        return Granted(calls, wait + random.uniform(0, wait / 10))
