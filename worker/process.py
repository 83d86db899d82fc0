"""One worker process: the generator, the threads that keep its leases and repair, and the children that read inputs."""

import logging
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from common import queue, workers
from common.queue_position import MAX_CLAIM_ROWS
from common.settings import settings
from worker import claims, closing, fairest, ingest, leases, model_list, retention, retrying, sums, sweep
from worker.claims import ClaimKey
from worker.generator import Generator
from worker.leases import Renewed
from worker.outcomes import Outcome
from worker.repeating import repeat

log = logging.getLogger(__name__)

CLAIMS_PER_CONCURRENCY = 2
# Single jobs that a process may hold for those between its turns to be claimed, whether it has room or not.
MAX_SINGLES_BETWEEN = 32
RENEW_SECONDS = 5.0
# How long a cancel or a stop may take to be heard.
LOOK_SECONDS = 1.0
SWEEP_SECONDS = 2.0
EPOCH_SECONDS = 1.0
RETENTION_SECONDS = 30.0
MODELS_SECONDS = 300.0
# Longer than a living process takes to renew its leases once the database can be reached again.
TRUST_LEASES_SECONDS = 12.0
INGESTS_AT_ONCE = 1
# Some hundred rows: read in about the time that a claim takes.
SMALL_INPUT_BYTES = 64 * 1024
SMALL_INGESTS_AHEAD = 4


class WorkerProcess:
    """`name` is what its leases are under; no two processes may share one. `on_drain` is called, in any thread, when an
    operator asks the process to end, and `on_new_redis` when Redis has been emptied or is another."""

    def __init__(self, name: str, on_drain: Callable[[], None], on_new_redis: Callable[[], None]) -> None:
        self.name = name
        self._on_drain = on_drain
        self._on_new_redis = on_new_redis
        self._epoch: str | None = None
        concurrency = settings().worker_concurrency
        # Plans with work that can be claimed only once jobs that run now have ended.
        self._blocked: set[str] = set()
        self.claim_rows = max(1, min(MAX_CLAIM_ROWS, concurrency // CLAIMS_PER_CONCURRENCY))
        self.generator = Generator(concurrency, name, self.claim_rows, self._recorded, _announce)
        # By the last ticket.
        self.rows_served = 0
        self._ended = threading.Event()
        self._reached_database_since: float | None = None
        # Reading a million rows would hold up the event loop, so inputs are read in processes of their own, forked from
        # a server that has the code loaded but none of this process's threads.
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["worker.ingest"])
        # Now, behind everything else, and not when the first input waits to be read.
        forkserver.ensure_running()
        self._ingests: list[ForkServerProcess] = []
        self._small_ingests: list[Future[None]] = []
        self._in_hand: set[tuple[Callable[[UUID], None], UUID]] = set()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._closer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="closer")
        for act, first, seconds in (
            (self._beat, 0.0, workers.BEAT_SECONDS),
            (self._renew, RENEW_SECONDS, RENEW_SECONDS),
            (self._look, LOOK_SECONDS, LOOK_SECONDS),
            (self._watch_redis, 0.0, EPOCH_SECONDS),
            (self._sweep, SWEEP_SECONDS, SWEEP_SECONDS),
            (sums.Rotation().run, sums.SUMS_SECONDS, sums.SUMS_SECONDS),
            (retention.run, RETENTION_SECONDS, RETENTION_SECONDS),
            (model_list.refresh, 0.0, MODELS_SECONDS),
        ):
            repeat(act, first, seconds, self._ended)

    def _beat(self) -> None:
        if workers.beat(self.name, socket.gethostname(), os.getpid()):
            self._on_drain()

    def _renew(self) -> None:
        held = self.generator.held()
        renewed = leases.renew(held)
        self._heed(renewed)
        # Claims that were ours and are not: this process was held up past its lease.
        self.generator.forget(held - set(renewed))

    def _look(self) -> None:
        if held := self.generator.held():
            self._heed(leases.look(held))

    def _heed(self, found: Mapping[ClaimKey, Renewed]) -> None:
        """Stops what is to stop, and starts nothing more of what is paused."""
        self.generator.stop({key: lease.stopped for key, lease in found.items() if lease.stopped is not None})
        self.generator.put_back([key for key, lease in found.items() if lease.paused])

    def _watch_redis(self) -> None:
        """Puts tickets and tasks on again as soon as Redis turns out to have none of them."""
        known, self._epoch = self._epoch, queue.epoch()
        if known not in (None, self._epoch):
            log.warning("Redis was emptied or is another: tickets and tasks are put on again")
            self._on_new_redis()
            sweep.run(trust_leases=False)

    def _sweep(self) -> None:
        since = self._reached_database_since
        try:
            sweep.run(trust_leases=since is not None and time.monotonic() - since > TRUST_LEASES_SECONDS)
        except SQLAlchemyError:
            self._reached_database_since = None
            raise
        if since is None:
            self._reached_database_since = time.monotonic()

    def serve(self, plan: str) -> None:
        """Claims some of the plan's work, if it has any, and starts it."""
        taken = claims.take(plan, self.claim_rows, self.name, self.generator.congested())
        if taken.blocked:
            self._blocked.add(plan)
        self.rows_served = self.generator.start(taken.claims)
        if taken.more:
            queue.announce_work(plan)

    def serve_singles(self) -> dict[str, int]:
        """Claims single jobs while rows of batches fill the process: their callers may be waiting, and what is claimed
        by turns may be others' for long. Few at a time, so that batches go on. Returns the rows by plan."""
        served: dict[str, int] = {}
        try:
            for plan in fairest.plans_with_singles():
                rows = min(self.claim_rows, MAX_SINGLES_BETWEEN - self.generator.singles())
                if rows > 0:
                    taken = claims.take(plan, rows, self.name, self.generator.congested(), singles=True)
                    served[plan] = self.generator.start(taken.claims)
        except SQLAlchemyError as error:
            log.warning("single jobs were not looked for", extra={"error": str(error)})
        return served

    def _recorded(self, outcomes: Sequence[Outcome]) -> None:
        _tell_waiting(outcomes)
        # What ended may have made room under a limit or a cap. What ends in other processes the sweep notices.
        while self._blocked:
            queue.announce_work(self._blocked.pop())

    def may_ingest(self) -> bool:
        self._ingests = [child for child in self._ingests if child.is_alive()]
        self._small_ingests = [reading for reading in self._small_ingests if not reading.done()]
        return len(self._ingests) < INGESTS_AT_ONCE and len(self._small_ingests) < SMALL_INGESTS_AHEAD

    def ingest(self, batch_id: UUID) -> None:
        """Starts to read the batch's input: a small one in a thread, since a process takes longer to begin than that,
        any other in a child."""
        if ingest.input_bytes(batch_id) <= SMALL_INPUT_BYTES:
            reading = self._in_background(self._reader, ingest.read, batch_id)
            if reading is not None:
                self._small_ingests.append(reading)
            return
        child = self._forks.Process(target=ingest.run, args=(batch_id,), name=f"ingest-{batch_id.hex}")
        child.start()
        self._ingests.append(child)

    def close(self, batch_id: UUID) -> None:
        """Starts to end the rows of a stopped batch that never began."""
        self._in_background(self._closer, closing.close, batch_id)

    def retry(self, batch_id: UUID) -> None:
        """Starts to make rows of an ended batch pending again."""
        self._in_background(self._closer, retrying.retry, batch_id)

    def _in_background(
        self, thread: ThreadPoolExecutor, act: Callable[[UUID], None], batch_id: UUID
    ) -> Future[None] | None:
        """None where it is waiting or running already: the sweep asks again for what takes long to begin."""
        if (act, batch_id) in self._in_hand:
            return None
        self._in_hand.add((act, batch_id))

        def run() -> None:
            try:
                act(batch_id)
            # Whatever it is: nobody looks at what the thread ends with, and the sweep sees that the work is open.
            except Exception:
                log.exception("%s.%s failed; the sweep has it run again", act.__module__, act.__name__)
            finally:
                self._in_hand.discard((act, batch_id))

        return thread.submit(run)

    def hasten(self) -> None:
        """Makes a drain drop the calls in flight and give their jobs back."""
        self.generator.hasten()

    def drain(self) -> None:
        """Finishes what is running and gives the rest back. Leases are kept to the end."""
        self.generator.drain()
        for thread in (self._reader, self._closer):
            thread.shutdown(cancel_futures=True)
        for child in self._ingests:
            child.join()
        self._ended.set()
        workers.leave(self.name)


def _tell_waiting(outcomes: Sequence[Outcome]) -> None:
    """Wakes the requests that wait for a single job. They look for themselves when this is lost."""
    singles = [outcome.claim.batch_id for outcome in outcomes if outcome.claim.single]
    if singles:
        try:
            with queue.redis().pipeline(transaction=False) as pipeline:
                for batch_id in singles:
                    pipeline.publish(queue.finished_channel(batch_id), b"")
                pipeline.execute()
        except RedisError as error:
            log.warning("waiting requests were not woken", extra={"error": str(error)})


def _announce(plans: Collection[str]) -> None:
    for plan in plans:
        queue.announce_work(plan)
