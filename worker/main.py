"""What worker.py runs. It stands in the package, because the children that read inputs import worker.py again."""

import os
import socket
import sys
import uuid
from collections.abc import Callable

from redis import Redis

from common import interpreter, logs, prices, providers
from common.plans import plans
from common.queue import connect
from worker.ticket_worker import TicketWorker


def main() -> None:
    """One worker process, until a signal ends it."""
    kind = _kind()
    logs.configure()
    prices.check_file()
    plans()
    providers.check_keys()
    interpreter.tune()
    # The random part keeps a restarted process from taking its predecessor's leases for its own.
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    kind(name, connect()).work(logging_level=None)


def _kind() -> Callable[[str, Redis], TicketWorker]:
    """Exits where no kind has the name that is given. Each imports its own: the model's client alone takes a second of
    CPU and 20 MB, and who delivers calls no model."""
    match sys.argv[1:]:
        case []:
            from worker.concurrent_worker import ConcurrentWorker

            return ConcurrentWorker
        case ["deliveries"]:
            from worker.delivery_worker import DeliveryWorker

            return DeliveryWorker
        case _:
            sys.exit("usage: python worker.py [deliveries]")
