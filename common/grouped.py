"""Calls of one kind that threads make at once, done together.

A call that comes while another is being done waits for that one, and is then done together with all that waited: the
first alone, as fast as ever, and under load as many as there are. Nobody waits for company that is not there yet, and
what is done for a call has begun after the call came.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")


class Grouped(Generic[KeyT, ItemT, OutcomeT]):
    """Does `do` for the items that came at once for one key; it gives the outcome of each, or raises for all of them.
    `afterwards` is done for the key before any of the callers goes on, while the next group is on its way already."""

    def __init__(
        self,
        do: Callable[[KeyT, Sequence[ItemT]], Sequence[OutcomeT]],
        afterwards: Callable[[KeyT], None] = lambda _: None,
    ) -> None:
        self._do = do
        self._afterwards = afterwards
        self._lock = threading.Lock()
        self._lines: dict[KeyT, list[_Caller[ItemT, OutcomeT]]] = {}

    def go(self, key: KeyT, item: ItemT) -> OutcomeT:
        """The outcome of this item."""
        mine: _Caller[ItemT, OutcomeT] = _Caller(item)
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = []
            else:
                line.append(mine)
        group = [mine] if line is None else mine.wait()
        if group:
            self._go(key, group)
        return mine.outcome()

    def _go(self, key: KeyT, group: "Sequence[_Caller[ItemT, OutcomeT]]") -> None:
        """By the thread of the first of the group."""
        try:
            try:
                outcomes = self._do(key, [caller.item for caller in group])
            finally:
                self._next(key)
            self._afterwards(key)
        except BaseException as error:
            for caller in group:
                caller.error = error
        else:
            for caller, outcome in zip(group, outcomes, strict=True):
                caller.outcomes = (outcome,)
        for caller in group[1:]:
            caller.go_on()

    def _next(self, key: KeyT) -> None:
        """Whoever waited meanwhile goes now, all together."""
        with self._lock:
            line = self._lines[key]
            if not line:
                del self._lines[key]
                return
            self._lines[key] = []
        line[0].group = line
        line[0].go_on()


class _Caller(Generic[ItemT, OutcomeT]):
    """An item whose thread waits: for its outcome, or to be the one that does it for a group, itself the first."""

    __slots__ = ("_waits", "error", "group", "item", "outcomes")

    def __init__(self, item: ItemT) -> None:
        self.item = item
        self.group: list[_Caller[ItemT, OutcomeT]] = []
        self.outcomes: tuple[OutcomeT, ...] = ()
        self.error: BaseException | None = None
        # A lock that another thread opens is the cheapest thing to wait for.
        self._waits = threading.Lock()
        self._waits.acquire()

    def wait(self) -> "list[_Caller[ItemT, OutcomeT]]":
        """Until another has done it: empty; or else the group to do."""
        self._waits.acquire()
        return self.group

    def go_on(self) -> None:
        self._waits.release()

    def outcome(self) -> OutcomeT:
        if self.error is not None:
            raise self.error
        (found,) = self.outcomes
        return found
