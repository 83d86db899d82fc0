"""One transaction for all that a request does: what its verbs write is committed together, or nothing of it is.

A verb opens a transaction of its own with `database.as_account` or `as_owner`. Under `together` these are parts of one,
which is begun by the first of them and not before: while an upload is being stored, none is open.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection

Begin = Callable[[], AbstractContextManager[Connection]]


class Whole:
    """The one transaction. `begin` opens it, and `first` is what happens in it before anything else."""

    def __init__(self, begin: Begin, first: Callable[[Connection], None], *, of_owner: bool) -> None:
        self.of_owner = of_owner
        self.afterwards: list[Callable[[], None]] = []
        self._begin = begin
        self._first = first
        self._opened = ExitStack()
        self._connection: Connection | None = None

    @contextmanager
    def part(self) -> Iterator[Connection]:
        """A verb's part. Its error undoes it, also where the request then goes on."""
        if self._connection is None:
            connection = self._opened.enter_context(self._begin())
            self._first(connection)
            self._connection = connection
        with self._connection.begin_nested():
            yield self._connection

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Commits at the end; rolls back on an error."""
        with self._opened:
            yield


_current: ContextVar[Whole | None] = ContextVar("whole", default=None)


def current() -> Whole | None:
    """The transaction that verbs take part in here; None where each has its own."""
    return _current.get()


@contextmanager
def together(whole: Whole) -> Iterator[None]:
    """Within it verbs take part in that transaction. It is committed at the end, and then what was put off is done; on
    an error it is rolled back, and that is not."""
    token = _current.set(whole)
    try:
        with whole.ended():
            yield
    finally:
        _current.reset(token)
    for act in whole.afterwards:
        act()


@contextmanager
def apart() -> Iterator[None]:
    """Within it each verb has its own transaction again: for what only reads, and may do so for long."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def after_commit(act: Callable[[], None]) -> None:
    """Does it once what was written so far is committed: at once, where each verb commits by itself."""
    whole = _current.get()
    if whole is None:
        act()
    else:
        whole.afterwards.append(act)
