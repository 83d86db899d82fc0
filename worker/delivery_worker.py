"""The process that delivers webhooks and sends mails. It serves no plan: a receiver that hangs holds up no
generation."""

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from redis import Redis
from rq.job import Job
from rq.queue import Queue

from common import workers
from common.queue import DELIVERIES_QUEUE
from common.settings import settings
from worker import delivery_tasks
from worker.deliverer import Deliverer
from worker.mailer import Mailer
from worker.metering import Metering
from worker.repeating import repeat
from worker.ticket_worker import TicketWorker

IDLE_SECONDS = 1.0


class DeliveryWorker(TicketWorker):
    """Serves the queue of deliveries. What it drops in flight is attempted again after its lease."""

    def __init__(self, name: str, connection: Redis) -> None:
        super().__init__(name, connection, {DELIVERIES_QUEUE: 1.0})
        self.process = DeliveryProcess(name, self._drain_asked)
        delivery_tasks.serve_with(self.process.deliverer)

    def _take(self) -> tuple[Job, Queue] | None:
        found = self._queues_by_weight.take([DELIVERIES_QUEUE])
        if found is None:
            self._wait_for_bell()
        return found

    def _wait_for_bell(self) -> None:
        """The bell rings for all queues, and very often for others."""
        until = time.monotonic() + IDLE_SECONDS
        while (left := until - time.monotonic()) > 0 and not self._stop_requested:
            message = self._bell.get_message(timeout=left)
            if message is not None and message["data"] == DELIVERIES_QUEUE.encode():
                return


class DeliveryProcess:
    """The deliverer, the mailer and the metering of this process, known to operators under its name as workers are."""

    def __init__(self, name: str, on_drain: Callable[[], None]) -> None:
        self._name = name
        self._on_drain = on_drain
        self._ended = threading.Event()
        self.deliverer = Deliverer(settings().delivery_concurrency)
        self._mailer = Mailer()
        self._metering = Metering()
        repeat(self._beat, 0.0, workers.BEAT_SECONDS, self._ended)

    def _beat(self) -> None:
        if workers.beat(self._name, socket.gethostname(), os.getpid()):
            self._on_drain()

    def drain(self) -> None:
        with ThreadPoolExecutor(max_workers=2) as beside:
            drained = [beside.submit(other.drain) for other in (self._mailer, self._metering)]
            self.deliverer.drain()
            for other in drained:
                other.result()
        self._ended.set()
        workers.leave(self._name)

    def hasten(self) -> None:
        self.deliverer.hasten()
        self._mailer.hasten()
