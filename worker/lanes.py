"""Lanes: the calls to one model of one provider, let go one after the other as their limits, their provider's window,
its breaker and the process's slots allow.

Where nothing is in the way a call goes at once, without a task or a trip. A call holds its place only while it is made:
between two attempts its job waits outside.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from worker.breaker import Breaker
from worker.rates import ASK_AT_ONCE, Rates, Told
from worker.turns import Turns, Waiting
from worker.window import Window

log = logging.getLogger(__name__)

LEAST_PAUSE_SECONDS = 0.005


class Slots:
    """The calls that a process may have in flight, whichever lane they are in: so many, and `more` of single jobs.
    Calls that begin together may end together, much later: those few are for a single job that comes meanwhile."""

    def __init__(self, most: int, more: int) -> None:
        self._most = most
        self._more = more
        self._taken = 0
        # In the order in which they are served; a dict is a set that keeps it.
        self._waiting: dict[Lane, None] = {}

    @property
    def waiting(self) -> tuple["Lane", ...]:
        """The lanes in which calls wait."""
        return tuple(self._waiting)

    def room(self, *, single: bool) -> int:
        return self._most + (self._more if single else 0) - self._taken

    def waits(self, lane: "Lane") -> None:
        self._waiting[lane] = None

    def take(self) -> None:
        self._taken += 1

    def release(self, calls: int = 1) -> None:
        self._taken -= calls
        for lane in self.waiting:
            # To the end of the line, so that a long lane leaves the others theirs.
            del self._waiting[lane]
            if lane.waiting:
                self._waiting[lane] = None
                lane.pump()


@dataclass(slots=True)
class Line:
    """What a process has towards one provider: the window that the lanes of its models share."""

    window: Window
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A call that was let go, with what it was counted for."""

    began: float
    tokens: int


# What a call's end says of its provider: it answers (be it with a refusal of this one request), it is failing, it did
# not answer in time, it has too many calls, or it takes none until its operator acts.
Verdict = Literal["answers", "fails", "times_out", "limits", "refuses"]


class Elsewhere(Exception):
    """The lane is closed, and the caller said that another would do."""


class Lane:
    """`name` is for the log. `learn` makes the rates of a model without limits of the operator's, once its provider
    tells some."""

    def __init__(self, name: str, slots: Slots, line: Line, rates: Rates | None, learn: Callable[[], Rates]) -> None:
        self._name = name
        self._slots = slots
        self._line = line
        self._rates = rates
        self._learn = learn
        self._breaker = Breaker()
        self._turns = Turns()
        self._asking: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        # The part of what its calls are held for that they really use.
        self._used_share = 1.0
        self._blocked_until = 0.0

    @property
    def open(self) -> bool:
        """Whether calls go here, or one may go to see whether they do."""
        return self._breaker.may_begin(time.monotonic())

    @property
    def waiting(self) -> int:
        return len(self._turns)

    @property
    def congested(self) -> bool:
        """Whether calls wait here for something other than a slot of the process."""
        return self.waiting > 0 and self._slots.room(single=False) > 0

    async def enter(self, account_id: UUID, tokens: int, *, single: bool, movable: bool) -> Place:
        """Waits until a call that may use so many tokens may go. Raises Elsewhere when the lane closes and the call is
        movable."""
        expected = max(1, int(tokens * self._used_share))
        if self._rates is None and not self.waiting and self._room(single=single) > 0:
            self._take()
            return Place(time.monotonic(), expected)
        waiting = Waiting(account_id, single, movable, expected)
        self._turns.add(waiting)
        self._slots.waits(self)
        self.pump()
        try:
            await waiting.go
        except asyncio.CancelledError:
            if waiting.go.done() and not waiting.go.cancelled() and waiting.go.exception() is None:
                self.abandon(Place(time.monotonic(), expected))
            raise
        return Place(time.monotonic(), expected)

    def leave(self, place: Place, verdict: Verdict, used: int, told: Told | None) -> None:
        """A call ended, having used so many tokens."""
        if told is not None:
            self._heed(told)
        if used and place.tokens:
            share = self._used_share * used / place.tokens
            self._used_share += (min(1.0, max(0.001, share)) - self._used_share) / 10
        self._judge(place, verdict, told.wait_seconds if told is not None else 0.0)
        if self._rates is not None:
            self._rates.settle(place.tokens - used, told)
        self._release()

    def abandon(self, place: Place) -> None:
        """A call that was let go was not made, or was dropped: nothing is known of the provider."""
        self._breaker.abandoned()
        if self._rates is not None:
            self._rates.settle(place.tokens, None)
        self._release()

    def _release(self) -> None:
        self._line.in_flight -= 1
        self._slots.release()

    def _heed(self, told: Told) -> None:
        if self._rates is None and told.limits:
            # Counted from now on: what is in flight was not asked for there.
            self._rates = self._learn()

    def _judge(self, place: Place, verdict: Verdict, wait_seconds: float) -> None:
        now = time.monotonic()
        window = self._line.window
        if verdict == "answers":
            window.succeeded(self._line.in_flight)
        elif verdict == "times_out":
            window.congested(place.began, self._line.in_flight, now)
        # Where the rates are known they are the cure, and not fewer calls at once. Where not, a refusal now and then is
        # its own job's to wait out.
        elif verdict == "limits" and (
            self._rates is not None or window.congested(place.began, self._line.in_flight, now)
        ):
            self._blocked_until = max(self._blocked_until, now + wait_seconds)
        if verdict in ("answers", "limits"):
            if self._breaker.succeeded(place.began, now):
                window.restart()
                log.info("a provider answers again", extra={"lane": self._name})
            return
        was_closed = self._breaker.closed
        opens = self._breaker.refused if verdict == "refuses" else self._breaker.failed
        if opens(place.began, now):
            if was_closed:
                log.error("a provider fails: only probes are sent until one succeeds", extra={"lane": self._name})
            # Also where a probe failed: others may have come meanwhile to be the next.
            self._send_elsewhere()

    def _send_elsewhere(self) -> None:
        for waiting in self._turns:
            if waiting.movable and not waiting.go.done():
                waiting.go.set_exception(Elsewhere)

    def pump(self) -> None:
        """Lets go what may: called whenever something may have changed."""
        if not self.waiting:
            return
        if self._rates is not None:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(self._rates))
            return
        for waiting in self._let_go(self.waiting):
            waiting.go.set_result(None)
        self._set_alarm()

    async def _ask(self, rates: Rates) -> None:
        """Lets go what the rates allow, as long as something waits and nothing else is in the way."""
        # While the question is under way these places are nobody else's.
        while asked := self._let_go(ASK_AT_ONCE):
            granted, pause = await rates.acquire([waiting.tokens for waiting in asked])
            stopped = [waiting for waiting in asked[:granted] if waiting.go.done()]
            for waiting in asked[:granted]:
                if not waiting.go.done():
                    waiting.go.set_result(None)
            for waiting in stopped:
                rates.settle(waiting.tokens, None)
            self._turns.put_back(asked[granted:])
            self._give_back(len(stopped) + len(asked) - granted)
            if granted < len(asked):
                await asyncio.sleep(max(pause, LEAST_PAUSE_SECONDS))
        self._set_alarm()

    def _let_go(self, most: int) -> list[Waiting]:
        """Takes places for those who go next, as far as there are any."""
        found: list[Waiting] = []
        while len(found) < most and (waiting := self._turns.peek()) is not None:
            if self._room(single=waiting.single) <= 0:
                break
            self._turns.pop()
            self._take()
            found.append(waiting)
        return found

    def _room(self, *, single: bool) -> int:
        now = time.monotonic()
        if now < self._blocked_until or not self._breaker.may_begin(now):
            return 0
        return min(self._slots.room(single=single), self._line.window.size - self._line.in_flight)

    def _take(self) -> None:
        self._slots.take()
        self._line.in_flight += 1
        self._breaker.begin()

    def _give_back(self, calls: int) -> None:
        if calls:
            self._breaker.abandoned()
            self._line.in_flight -= calls
            self._slots.release(calls)

    def _set_alarm(self) -> None:
        """Looks again when time alone will have changed something."""
        if not self.waiting:
            return
        now = time.monotonic()
        at = max(self._blocked_until, self._breaker.probes_at or 0.0)
        if at <= now:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(at - now + 0.001, self.pump)
