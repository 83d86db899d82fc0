"""How the requests of a process share its only thread.

Where requests are greenlets of one thread, one that computes for long lets others go on in between, and what blocks its
thread, or cannot stop in between, is done in a native one. Whoever serves the requests gives both ways; elsewhere there
is nothing to do.
"""

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from time import monotonic
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Work = Callable[[], None]
# What all of a process's requests wait for the one that computes.
TURN_SECONDS = 0.003

_let_others: Callable[[], None] | None = None
_have_done: Callable[[Work], None] | None = None
_turn_began = 0.0
_in_native_thread: ContextVar[bool] = ContextVar("in_native_thread", default=False)


def use(let_others: Callable[[], None], have_done: Callable[[Work], None]) -> None:
    """From now on this process's requests take turns: `let_others` has each other that can go on do so, and `have_done`
    returns when a native thread has done some work."""
    global _let_others, _have_done
    _let_others, _have_done = let_others, have_done


def let_others_go_on() -> None:
    """For between two pieces of what may compute for long: soon enough, all other requests have a turn."""
    global _turn_began
    if _let_others is not None and monotonic() - _turn_began >= TURN_SECONDS and not _in_native_thread.get():
        _let_others()
        _turn_began = monotonic()


def in_native_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What the work gives; other requests go on meanwhile. The work asks for nothing that requests share, such as a
    connection to the database."""
    if _have_done is None or _in_native_thread.get():
        return work(*args, **kwargs)
    # What is logged there is the request's.
    context = copy_context()
    context.run(_in_native_thread.set, True)
    given: list[R] = []
    raised: list[BaseException] = []

    def done() -> None:
        try:
            given.append(context.run(work, *args, **kwargs))
        # For whoever asked for it, whatever it is; the thread would print it, with the work and what that was given.
        except BaseException as error:
            raised.append(error)

    _have_done(done)
    if raised:
        raise raised[0]
    return given[0]
