"""What worker.py runs. It stands in the package, because the children that read inputs import worker.py again."""

import gc
import os
import socket
import sys
import uuid

from common import logs, prices
from common.queue import connect
from worker.concurrent_worker import ConcurrentWorker

ALLOCATIONS_BETWEEN_COLLECTIONS = 20_000
SWITCH_SECONDS = 0.001


def main() -> None:
    """One worker process, until a signal ends it."""
    logs.configure()
    prices.check_file()
    # By default cycles are looked for every 700 allocations, and each call makes hundreds that form none.
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    # The threads that claim and record hear from services a dozen times each, and after every answer wait this long for
    # the interpreter while the event loop is busy; with the default of 5 ms they would hold up the calls.
    sys.setswitchinterval(SWITCH_SECONDS)
    # The random part keeps a restarted process from taking its predecessor's leases for its own.
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    ConcurrentWorker(name, connect()).work(logging_level=None)
