"""The RQ worker: takes tickets by weight while there is room for their work, and hands the work to the process.

A ticket is done as soon as its claim is made, so one thread serves tickets however many calls are in flight. The
claim's lease, not the ticket, protects the work from then on.
"""

import logging
import signal
import time
from types import FrameType
from typing import Any

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

from common.queue import BELL_CHANNEL, INGESTS_QUEUE, TASKS_QUEUE, listener, plan_queue, plan_queues
from worker import tasks
from worker.process import WorkerProcess
from worker.weighted_queue import WeightedQueues

log = logging.getLogger(__name__)

WORKER_TTL_SECONDS = 60
HEARTBEAT_SECONDS = 15.0
IDLE_SECONDS = 1.0
FULL_SECONDS = 0.25
REDIS_PAUSE_SECONDS = 1.0
# Inputs are read and batches closed as soon as may be: work behind them waits.
TASKS_WEIGHT = 10.0


class ConcurrentWorker(SimpleWorker):
    """Serves the plans' tickets and the queues of tasks until SIGTERM or SIGINT. A first signal drains; a second drops
    the calls in flight and gives their jobs back."""

    def __init__(self, name: str, connection: Redis) -> None:
        weights = {name: float(plan.weight) for name, plan in plan_queues().items()}
        weights |= {TASKS_QUEUE: TASKS_WEIGHT, INGESTS_QUEUE: TASKS_WEIGHT}
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
        self._next_look_for_singles = 0.0
        self.process = WorkerProcess(name, self._drain_asked, self._redis_changed)
        tasks.serve_with(self.process)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next ticket or task there is room for. Raises StopRequested once a signal has come."""
        if self.get_state() != WorkerStatus.IDLE:
            self._quietly(self.set_state, WorkerStatus.IDLE)
        while not self._stop_requested:
            try:
                if not self._bell.subscribed:
                    # Before looking: a ticket that comes after the look then rings.
                    self._bell.subscribe(BELL_CHANNEL)
                self._keep_alive()
                self._serve_singles()
                queues = self._servable()
                found = self._queues_by_weight.take(queues)
                if found is not None:
                    return found
                self._wait(queues)
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

    def _serve_singles(self) -> None:
        """Looks for single jobs beside the tickets while batches keep the process busy. What they get counts as their
        plan's turn."""
        if not self.process.generator.is_full() or time.monotonic() < self._next_look_for_singles:
            return
        for plan, rows in self.process.serve_singles().items():
            self._queues_by_weight.charge(plan_queue(plan), rows / self.process.claim_rows)
        self._next_look_for_singles = time.monotonic() + FULL_SECONDS

    def _servable(self) -> list[str]:
        """The queues whose work this process has room for now."""
        queues = [TASKS_QUEUE, INGESTS_QUEUE] if self.process.may_ingest() else [TASKS_QUEUE]
        if self.process.generator.room() >= self.process.claim_rows:
            queues += plan_queues()
        return queues

    def _wait(self, queues: list[str]) -> None:
        if not any(name in plan_queues() for name in queues):
            self.process.generator.wait_for_room(self.process.claim_rows, FULL_SECONDS)
        else:
            # The end of an ingest, which the next one may be waiting for, rings no bell.
            self._bell.get_message(timeout=IDLE_SECONDS if INGESTS_QUEUE in queues else FULL_SECONDS)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Runs a ticket in this thread. When Redis goes away in the middle, the sweep makes good for the ticket."""
        self.process.rows_served = 0
        self._quietly(self.perform_job, job, queue)
        if queue.name in plan_queues():
            # Shares are of calls: a claim of few rows is not the turn that a claim of many is.
            self._queues_by_weight.settle(queue.name, self.process.rows_served / self.process.claim_rows)

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
            log.warning("second signal: calls in flight are dropped and their jobs given back")
            self.process.generator.hasten()
        else:
            log.info("signal %d: finishing the calls in flight", signum)
            # A signal to one that an operator has asked to drain already is the first, and hastens nothing.
            self._signalled = self._stop_requested = True

    def _drain_asked(self) -> None:
        if not self._stop_requested:
            log.info("asked to drain: finishing the calls in flight")
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
