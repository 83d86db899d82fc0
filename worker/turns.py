"""Who goes next of the calls that wait in one lane.

A process has rows claimed ahead of its calls. Were these called in the order of their claims, a job claimed last would
wait behind all of them. So single jobs go before rows of batches, and the accounts take turns.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(slots=True, eq=False)
class Waiting:
    """A call that waits; whoever lets it go sets the result of `go`. `movable`: another lane would do as well."""

    account_id: UUID
    single: bool
    movable: bool
    tokens: int
    go: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """Of one lane, used from one event loop. Calls that were stopped while they waited are passed over."""

    def __init__(self) -> None:
        self._singles: deque[Waiting] = deque()
        # The accounts whose rows wait, in the order of their turns.
        self._accounts: OrderedDict[UUID, deque[Waiting]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """How many wait, with those that were stopped and not passed over yet."""
        return self._count

    def __iter__(self) -> Iterator[Waiting]:
        yield from self._singles
        for rows in self._accounts.values():
            yield from rows

    def add(self, waiting: Waiting) -> None:
        self._line(waiting).append(waiting)
        self._count += 1

    def put_back(self, waiting: Sequence[Waiting]) -> None:
        """Undoes as many `pop`s: these go next, in this order."""
        for one in reversed(waiting):
            self._line(one).appendleft(one)
            if not one.single:
                self._accounts.move_to_end(one.account_id, last=False)
        self._count += len(waiting)

    def _line(self, waiting: Waiting) -> deque[Waiting]:
        return self._singles if waiting.single else self._accounts.setdefault(waiting.account_id, deque())

    def peek(self) -> Waiting | None:
        """Who goes next."""
        while self._singles:
            if not self._singles[0].go.done():
                return self._singles[0]
            self._singles.popleft()
            self._count -= 1
        while self._accounts:
            account_id, rows = next(iter(self._accounts.items()))
            while rows:
                if not rows[0].go.done():
                    return rows[0]
                rows.popleft()
                self._count -= 1
            del self._accounts[account_id]
        return None

    def pop(self) -> None:
        """Takes away who goes next: the one that `peek` gave."""
        self._count -= 1
        if self._singles:
            self._singles.popleft()
            return
        account_id, rows = self._accounts.popitem(last=False)
        rows.popleft()
        if rows:
            self._accounts[account_id] = rows
