"""A worker that is put to sleep, so that what waits for it can be looked at."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from local.stack import Stack


@contextmanager
def worker_asleep(stack: Stack) -> Iterator[None]:
    """Meanwhile no job is claimed and no input read. A lease is far longer than what a test does here."""
    worker = stack.processes["worker-1"]
    worker.send(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send(signal.SIGCONT)
