"""The RQ worker: takes tickets by weight while there is room for their work, and hands the work to the process.

A ticket is done as soon as its claim is made, so one thread serves tickets however many calls are in flight. The
claim's lease, not the ticket, protects the work from then on.
"""

import time

from redis import Redis
from rq.job import Job
from rq.queue import Queue

from common.queue import INGESTS_QUEUE, TASKS_QUEUE, plan_queue, plan_queues
from worker import tasks
from worker.process import WorkerProcess
from worker.ticket_worker import TicketWorker

IDLE_SECONDS = 1.0
FULL_SECONDS = 0.25
# Inputs are read and batches closed as soon as may be: work behind them waits.
TASKS_WEIGHT = 10.0


class ConcurrentWorker(TicketWorker):
    """Serves the plans' tickets and the queues of tasks. Of calls that are dropped it gives the jobs back."""

    process: WorkerProcess

    def __init__(self, name: str, connection: Redis) -> None:
        weights = {name: float(plan.weight) for name, plan in plan_queues().items()}
        weights |= {TASKS_QUEUE: TASKS_WEIGHT, INGESTS_QUEUE: TASKS_WEIGHT}
        super().__init__(name, connection, weights)
        self._next_look_for_singles = 0.0
        self.process = WorkerProcess(name, self._drain_asked, self._redis_changed)
        tasks.serve_with(self.process)

    def _take(self) -> tuple[Job, Queue] | None:
        self._serve_singles()
        queues = self._servable()
        found = self._queues_by_weight.take(queues)
        if found is None:
            self._wait(queues)
        return found

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
        self.process.rows_served = 0
        super().execute_job(job, queue)
        if queue.name in plan_queues():
            # Shares are of calls: a claim of few rows is not the turn that a claim of many is.
            self._queues_by_weight.settle(queue.name, self.process.rows_served / self.process.claim_rows)
