"""Whole stacks for tests that kill, empty or stop what others would share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.stack import Stack


@contextmanager
def own_stack(home: Path, workers: int = 1, *, with_stripe: bool = False, **settings: object) -> Iterator[Stack]:
    """Batchyard with services of its own and, as each process takes seconds to start, one web process. It sells nothing
    unless told to."""
    given = {"WEB_PROCESSES": "1"} | {name: str(value) for name, value in settings.items()}
    with Stack(home, workers=workers, extra_env=given, with_stripe=with_stripe, durable=False, keep=False) as stack:
        yield stack
