"""Calls of one kind that requests make at once, done together.

A call that comes while another is being done waits for that one, and is then done together with all that waited: the
first alone, as fast as ever, and under load as many as there are. Nobody waits for company that is not there: only
where the group before was of several do others get a turn first. What is done for a call has begun after the call
came.
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")
# How often a crowd is let run before its group begins, and for how short a time that is asked for. With 32 clients that
# submit jobs it makes groups of twelve where there were five; more turns make them no larger.
TURNS = 2
TURN_SECONDS = 0.000_001


class Grouped(Generic[KeyT, ItemT, OutcomeT]):
    """Does `do` for the items that came at once for one key; it gives the outcome of each, or raises for all of them.
    `afterwards` is then done for the key by the first caller, while the others and the next group go on already."""

    def __init__(
        self,
        do: Callable[[KeyT, Sequence[ItemT]], Sequence[OutcomeT]],
        afterwards: Callable[[KeyT], None] = lambda _: None,
    ) -> None:
        self._do = do
        self._afterwards = afterwards
        self._lock = threading.Lock()
        self._lines: dict[KeyT, list[_Caller[ItemT, OutcomeT]]] = {}
        self._crowded = False

    def go(self, key: KeyT, item: ItemT) -> OutcomeT:
        """The outcome of this item."""
        mine: _Caller[ItemT, OutcomeT] = _Caller(item)
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = [mine]
            else:
                line.append(mine)
        if line is None or mine.wait_to_lead():
            try:
                if self._crowded:
                    _let_others_run()
            finally:
                # Also where whoever leads is to end: others wait for it.
                with self._lock:
                    group, self._lines[key] = self._lines[key], []
                    self._crowded = len(group) > 1
                self._go(key, group)
        return mine.outcome()

    def _go(self, key: KeyT, group: "Sequence[_Caller[ItemT, OutcomeT]]") -> None:
        """By the first of the group."""
        done = False
        try:
            outcomes = self._do(key, [caller.item for caller in group])
            for caller, outcome in zip(group, outcomes, strict=True):
                caller.outcomes = (outcome,)
            done = True
        except BaseException as error:
            for caller in group:
                caller.error = error
        self._next(key)
        for caller in group[1:]:
            caller.go_on()
        if done:
            self._afterwards(key)

    def _next(self, key: KeyT) -> None:
        """Whoever waited meanwhile goes now, all together."""
        with self._lock:
            line = self._lines[key]
            if not line:
                del self._lines[key]
                return
            first = line[0]
        first.leads = True
        first.go_on()


def _let_others_run() -> None:
    for _ in range(TURNS):
        # Not for nothing: then whose request has only just come would have no turn.
        time.sleep(TURN_SECONDS)


class _Caller(Generic[ItemT, OutcomeT]):
    """An item whose request waits: for its outcome, or to be the one that does it for a group, itself the first."""

    __slots__ = ("_waits", "error", "item", "leads", "outcomes")

    def __init__(self, item: ItemT) -> None:
        self.item = item
        self.leads = False
        self.outcomes: tuple[OutcomeT, ...] = ()
        self.error: BaseException | None = None
        # A lock that another opens is the cheapest thing to wait for.
        self._waits = threading.Lock()
        self._waits.acquire()

    def wait_to_lead(self) -> bool:
        """Until another has done it, or it is to do its group, itself the first."""
        self._waits.acquire()
        return self.leads

    def go_on(self) -> None:
        self._waits.release()

    def outcome(self) -> OutcomeT:
        if self.error is not None:
            raise self.error
        (found,) = self.outcomes
        return found
