"""The RQ worker that each kind of process is: it takes tickets in its one thread until a signal, and outlives Redis.

What a ticket asks for is only begun in its task, so that one thread serves however many calls are in flight.
"""

import logging
import signal
import time
from abc import abstractmethod
from collections.abc import Mapping
from types import FrameType
from typing import Any, Protocol

from redis import Redis
from redis.exceptions import RedisError
from rq import SimpleWorker, worker_registration
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.utils import now
from rq.worker.base import WorkerStatus

from common.queue import BELL_CHANNEL, listener
from worker.weighted_queue import WeightedQueues

log = logging.getLogger(__name__)

WORKER_TTL_SECONDS = 60
HEARTBEAT_SECONDS = 15.0
REDIS_PAUSE_SECONDS = 1.0


class Served(Protocol):
    """What the tickets are for."""

    def drain(self) -> None:
        """Finishes what is running."""

    def hasten(self) -> None:
        """Makes a drain drop what is in flight."""


class TicketWorker(SimpleWorker):
    """Serves its queues until SIGTERM or SIGINT. A first signal drains; a second drops what is in flight."""

    process: Served

    def __init__(self, name: str, connection: Redis, weights: Mapping[str, float]) -> None:
        super().__init__(
            list(weights),
            name=name,
            connection=connection,
            serializer="json",
            worker_ttl=WORKER_TTL_SECONDS,
            log_job_description=False,
        )
        self._queues_by_weight = WeightedQueues(connection, weights)
        self._bell = listener(connection)
        self._next_heartbeat = 0.0
        self._signalled = False

    @abstractmethod
    def _take(self) -> tuple[Job, Queue] | None:
        """The next ticket or task there is room for; None after waiting a moment for one."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next ticket or task. Raises StopRequested once a signal has come."""
        if self.get_state() != WorkerStatus.IDLE:
            self._quietly(self.set_state, WorkerStatus.IDLE)
        while not self._stop_requested:
            try:
                if not self._bell.subscribed:
                    # Before looking: a ticket that comes after the look then rings.
                    self._bell.subscribe(BELL_CHANNEL)
                self._keep_alive()
                if (found := self._take()) is not None:
                    return found
            except RedisError as error:
                log.warning("Redis is away; trying again", extra={"error": str(error)})
                # A Redis that is away refuses at once: without a pause this would ask it all the time.
                time.sleep(REDIS_PAUSE_SECONDS)
        raise StopRequested

    def _keep_alive(self) -> None:
        if time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
            self._register_again()
            if self.should_run_maintenance_tasks:
                # RQ has no types here.
                self.run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def _register_again(self) -> None:
        """Beats, and says anew who it is: a Redis that was emptied, or away for long, has forgotten."""
        self.last_heartbeat = now()
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, pipeline)
            pipeline.expire(self.key, WORKER_TTL_SECONDS + 60)
            pipeline.execute()

    def _redis_changed(self) -> None:
        self._next_heartbeat = 0.0

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Runs a ticket in this thread. When Redis goes away in the middle, a sweep makes good for the ticket."""
        self._quietly(self.perform_job, job, queue)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """What RQ does before a task, in `prepare_execution` for its main process and here for the one it would fork:
        in one trip to Redis, since a caller may be waiting for the job that the ticket is for."""
        ttl = self.get_heartbeat_ttl(job)
        with self.connection.pipeline() as pipeline:
            self.execution = Execution.create(job, ttl, pipeline=pipeline, worker_name=self.name)
            self.set_state(WorkerStatus.BUSY, pipeline)
            self.set_current_job_id(job.id, pipeline)
            self.set_current_job_working_time(0, pipeline)
            self.heartbeat(ttl, pipeline)
            job.heartbeat(now(), ttl, pipeline)
            job.prepare_for_execution(self.name, pipeline)
            pipeline.execute()

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        # RQ beats once more, in a trip of its own, for what has ended.
        job.ended_at = now()

    def handle_job_success(self, job: Job, queue: Queue, started_job_registry: StartedJobRegistry) -> None:
        """What RQ does for a task without dependents, result or repetition, and ours have none: in one trip to Redis
        and not in ten, which would take the interpreter from the jobs that the ticket was for."""
        with self.connection.pipeline() as pipeline:
            self.increment_successful_job_count(pipeline=pipeline)
            if job.started_at is not None and job.ended_at is not None:
                self.increment_total_working_time(job.ended_at - job.started_at, pipeline)
            self.cleanup_execution(job, pipeline=pipeline)
            pipeline.delete(job.key)
            self.set_state(WorkerStatus.IDLE, pipeline)
            pipeline.execute()

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        # RQ beats before and after each ticket; tickets take milliseconds, and the loop above beats by the clock.
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)

    def check_for_suspension(self, burst: bool) -> None:
        self._quietly(super().check_for_suspension, burst)

    def procline(self, message: str) -> None:
        # The title of a process that serves many tenants at once would name one of them at random.
        return

    def _install_signal_handlers(self) -> None:
        signal.signal(signal.SIGINT, self.request_stop)
        signal.signal(signal.SIGTERM, self.request_stop)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        if self._signalled:
            log.warning("second signal: what is in flight is dropped and given back")
            self.process.hasten()
        else:
            log.info("signal %d: finishing what is in flight", signum)
            # A signal to one that an operator has asked to drain already is the first, and hastens nothing.
            self._signalled = self._stop_requested = True

    def _drain_asked(self) -> None:
        if not self._stop_requested:
            log.info("asked to drain: finishing what is in flight")
            self._stop_requested = True

    def teardown(self) -> None:
        try:
            self.process.drain()
        finally:
            self._quietly(super().teardown)
        log.info("worker stopped")

    def _quietly(self, act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except RedisError as error:
            log.warning("Redis went away", extra={"error": str(error)})
