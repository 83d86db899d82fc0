"""What worker.py runs. It stands in the package, because the children that read inputs import worker.py again."""

import os
import socket
import uuid

from common import interpreter, logs, prices, providers
from common.plans import plans
from common.queue import connect
from worker.concurrent_worker import ConcurrentWorker


def main() -> None:
    """One worker process, until a signal ends it."""
    logs.configure()
    prices.check_file()
    plans()
    providers.check_keys()
    interpreter.tune()
    # The random part keeps a restarted process from taking its predecessor's leases for its own.
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    ConcurrentWorker(name, connect()).work(logging_level=None)
