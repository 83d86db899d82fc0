"""Workers that are put to sleep, so that what waits for them can be looked at."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from local.stack import Stack


@contextmanager
def workers_asleep(stack: Stack) -> Iterator[None]:
    """Meanwhile no job is claimed and no input read. A lease is far longer than what a test does here."""
    workers = [process for name, process in stack.processes.items() if name.startswith("worker-")]
    for worker in workers:
        worker.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.send(signal.SIGCONT)
