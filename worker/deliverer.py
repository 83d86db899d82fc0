"""Delivery: claims what is due, sends it and records what came of it, on one event loop in a thread of its own.

A delivery holds its slot until its attempt is recorded: when PostgreSQL is slow or away, claiming stops and memory
stays bounded.
"""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import uvloop

from worker import delivery_claims, disabling
from worker.database_threads import in_thread
from worker.delivery_claims import ClaimedDelivery
from worker.delivery_recorder import DeliveryRecorder
from worker.sender import Lookup, Sender
from worker.vital_tasks import end_process_if_failed

log = logging.getLogger(__name__)

# What is due by its time alone is noticed within this.
LOOK_SECONDS = 1.0
# Between two claims: under load many deliveries then come at once.
BETWEEN_CLAIMS_SECONDS = 0.02
# One claims, one records and one looks.
DATABASE_THREADS = 3


class Deliverer:
    """At most `concurrency` deliveries are in flight. Public methods may be called from any thread."""

    def __init__(self, concurrency: int, lookup: Lookup | None = None) -> None:
        self._concurrency = concurrency
        self._draining = False
        self._running: set[asyncio.Task[None]] = set()
        self._database = ThreadPoolExecutor(max_workers=DATABASE_THREADS, thread_name_prefix="deliveries")
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="deliverer", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._prepare(lookup), self._loop).result()

    async def _prepare(self, lookup: Lookup | None) -> None:
        self._woken = asyncio.Event()
        self._sender = Sender(self._concurrency, lookup)
        self._recorder = DeliveryRecorder(self._database)
        self._claiming = asyncio.create_task(self._claim(), name="claiming")
        self._looking = asyncio.create_task(self._look(), name="looking")
        for task in (self._claiming, self._looking):
            task.add_done_callback(end_process_if_failed)

    def wake(self) -> None:
        """Something is due."""
        self._loop.call_soon_threadsafe(self._woken.set)

    def drain(self) -> None:
        """Claims nothing more, and returns when all that is in flight is recorded."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def hasten(self) -> None:
        """Makes a drain wait no longer: attempts under way are dropped, and made again after their leases."""
        self._loop.call_soon_threadsafe(self._drop)

    async def _claim(self) -> None:
        while not self._draining:
            await self._woken.wait()
            self._woken.clear()
            room = self._concurrency - len(self._running)
            # A full process is woken by the next slot that is free.
            if room > 0 and not self._draining:
                take = partial(delivery_claims.take, room, self._concurrency)
                taken: list[ClaimedDelivery] = await in_thread(self._database, take, [])
                for delivery in taken:
                    self._start(delivery)
                if len(taken) == delivery_claims.MAX_CLAIM_DELIVERIES:
                    # There may be more.
                    self._woken.set()
            await asyncio.sleep(BETWEEN_CLAIMS_SECONDS)

    def _start(self, delivery: ClaimedDelivery) -> None:
        task = asyncio.create_task(self._deliver(delivery))
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _deliver(self, delivery: ClaimedDelivery) -> None:
        await self._recorder.add(await self._sender.send(delivery))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """There is room again, for the process and for the endpoint."""
        self._running.discard(task)
        self._woken.set()

    async def _look(self) -> None:
        """Repairs what a crash leaves behind, and has what has become due by its time claimed."""
        while True:
            if ended := await in_thread(self._database, delivery_claims.give_back_ended, 0):
                log.warning("deliveries whose process died are due again", extra={"deliveries": ended})
            await in_thread(self._database, disabling.fail_stranded, 0)
            self._woken.set()
            await asyncio.sleep(LOOK_SECONDS)

    async def _drain(self) -> None:
        self._draining = True
        self._woken.set()
        # What was being claimed is started first.
        await self._claiming
        self._looking.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._recorder.finish()
        await self._sender.close()

    def _drop(self) -> None:
        for task in self._running:
            task.cancel()
