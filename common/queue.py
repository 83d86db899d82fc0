"""The door to Redis and RQ: tickets, tasks and the bell that wakes idle workers.

A ticket is an RQ job on a plan's queue that means "this plan has work" and names none: which work is decided when a
worker claims. So a queue needs only a few tickets however many jobs are pending, losing one costs a moment until the
sweep adds another, and losing Redis loses no work.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast
from uuid import UUID

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue

from common import ids
from common.once import Once
from common.plans import Plan, plans
from common.settings import settings
from common.together import after_commit

log = logging.getLogger(__name__)

TASKS_QUEUE = "tasks"
# Of their own: an input takes minutes to read, and what is stopped or retried must not wait behind many of them.
INGESTS_QUEUE = "ingests"
# Of deliverers alone: a ticket there means "deliveries are due" and names none.
DELIVERIES_QUEUE = "deliveries"
BELL_CHANNEL = "batchyard:bell"
MAX_TICKETS_PER_PLAN = 8
TICKET_SECONDS = 60
FAILED_TTL_SECONDS = 3600
# The identity of what Redis holds: another one, and all that was put there is gone.
EPOCH_KEY = "batchyard:epoch"
# A task that nobody has done within this time of being asked for may be lost.
ASKED_SECONDS = 10
# What a request may wait for Redis, and for how long none asks it after one has waited for nothing.
REQUEST_SECONDS = 1
QUIET_SECONDS = 2


def connect(seconds: float = 5) -> Redis:
    """A client with its own pool, which waits so long for an answer."""
    return Redis.from_url(
        settings().redis_url,
        socket_timeout=seconds,
        socket_connect_timeout=1,
        # Once more over a new connection where the old one was closed, but not where nothing answers.
        retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
        health_check_interval=30,
    )


@Once
def redis() -> Redis:
    """The client of all who put something on a queue: a request must not hang on a Redis that is away."""
    return connect(REQUEST_SECONDS)


def connect_async(seconds: float = 5) -> AsyncRedis:
    """As connect, for an event loop."""
    return AsyncRedis.from_url(
        settings().redis_url,
        socket_timeout=seconds,
        socket_connect_timeout=1,
        retry=AsyncRetry(NoBackoff(), 1, (RedisConnectionError,)),
        health_check_interval=30,
    )


def listener(connection: Redis) -> PubSub:
    """A subscription without channels yet."""
    # redis-py's own method has no types, so it is called here alone.
    made: PubSub = connection.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    return made


def plan_queue(plan: str) -> str:
    """The name of the RQ queue that holds a plan's tickets."""
    return f"plan-{plan}"


@lru_cache(maxsize=1)
def plan_queues() -> dict[str, Plan]:
    """The plans by the names of their queues."""
    return {plan_queue(plan.name): plan for plan in plans().values()}


@lru_cache(maxsize=8)
def queue(name: str) -> Queue:
    return Queue(name, connection=redis(), serializer="json")


_TASK_ID = re.compile(r"[a-z]+-([0-9a-f]{32})-[0-9a-f]{32}")

# Plans on whose queue this process last saw enough tickets.
_enough: set[str] = set()


def announce_work(plan: str) -> None:
    """Puts a ticket on the plan's queue unless enough are waiting, after the commit that makes the work.

    Skipping is safe: a ticket still in the queue will be claimed for after this moment, and that claim sees the commit.
    One too many does no harm either: a process looks only where it has seen enough. Nor does failing: the work is in
    PostgreSQL, and the sweep adds the ticket once Redis is back.
    """
    after_commit(partial(_add_ticket, plan))


def _add_ticket(plan: str) -> None:
    def add() -> None:
        tickets = queue(plan_queue(plan))
        if plan in _enough and redis().llen(tickets.key) >= MAX_TICKETS_PER_PLAN:
            return
        waiting = _enqueue(tickets, "worker.tasks.serve", plan)
        if waiting >= MAX_TICKETS_PER_PLAN:
            _enough.add(plan)
        else:
            _enough.discard(plan)

    _or_leave_it_to_the_sweep(plan, add)


def enqueue_ingest(batch_id: UUID) -> None:
    """Asks a worker to read a batch's input, after the commit that stores the batch."""
    after_commit(partial(_enqueue_task, INGESTS_QUEUE, "worker.tasks.ingest", batch_id))


def enqueue_close(batch_id: UUID) -> None:
    """Asks a worker to end the rows of a stopped batch that never started."""
    after_commit(partial(_enqueue_task, TASKS_QUEUE, "worker.tasks.close", batch_id))


def enqueue_retry(batch_id: UUID) -> None:
    """Asks a worker to make rows of an ended batch pending again."""
    after_commit(partial(_enqueue_task, TASKS_QUEUE, "worker.tasks.retry", batch_id))


def _enqueue_task(on: str, name: str, batch_id: UUID) -> None:
    def enqueue() -> None:
        task = name.rpartition(".")[2]
        job_id = f"{task}-{batch_id.hex}-{ids.new_id().hex}"
        _enqueue(queue(on), name, batch_id.hex, job_id, _asked_key(task, batch_id))

    _or_leave_it_to_the_sweep(name, enqueue)


def announce_deliveries() -> None:
    """Puts a ticket on the deliverers' queue unless enough are waiting, after the commit that makes something due.
    As with announce_work, skipping and failing are safe."""
    after_commit(_add_delivery_ticket)


def _add_delivery_ticket() -> None:
    def add() -> None:
        tickets = queue(DELIVERIES_QUEUE)
        if redis().llen(tickets.key) < MAX_TICKETS_PER_PLAN:
            _enqueue(tickets, "worker.delivery_tasks.serve", DELIVERIES_QUEUE)

    _or_leave_it_to_the_sweep(DELIVERIES_QUEUE, add)


def _asked_key(task: str, batch_id: UUID) -> str:
    return f"batchyard:asked:{task}:{batch_id.hex}"


def _enqueue(on: Queue, task: str, argument: str, job_id: str | None = None, task_key: str | None = None) -> int:
    """Puts a task on a queue and rings, in one trip. Returns how many tasks wait there."""
    with redis().pipeline() as pipeline:
        on.enqueue_call(
            task,
            args=[argument],
            timeout=TICKET_SECONDS,
            result_ttl=0,
            failure_ttl=FAILED_TTL_SECONDS,
            job_id=job_id,
            pipeline=pipeline,
        )
        if task_key is not None:
            pipeline.set(task_key, b"", ex=ASKED_SECONDS)
        pipeline.publish(BELL_CHANNEL, on.name)
        pipeline.llen(on.key)
        *_, waiting = pipeline.execute()
    return int(waiting)


@dataclass(slots=True)
class _Quiet:
    """Until when nothing is asked of Redis."""

    until: float = 0.0


@lru_cache(maxsize=1)
def _quiet() -> _Quiet:
    return _Quiet()


def _or_leave_it_to_the_sweep(what: str, enqueue: Callable[[], None]) -> None:
    # Where Redis stands still, each request would otherwise wait to find that out again.
    if time.monotonic() < _quiet().until:
        return
    try:
        enqueue()
    except RedisError as error:
        _quiet().until = time.monotonic() + QUIET_SECONDS
        log.warning("not enqueued; the sweep will do it", extra={"what": what, "error": str(error)})


def epoch() -> str:
    """The identity of what Redis holds; one that has none gets it. Raises RedisError."""
    with redis().pipeline() as pipeline:
        pipeline.set(EPOCH_KEY, ids.new_id().hex, nx=True)
        pipeline.get(EPOCH_KEY)
        return bytes(pipeline.execute()[1]).decode()


def forgotten(on: str, task: str, batch_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the batches for which no such task waits, nor was asked for a moment ago: a worker that took it may be
    about to begin. Raises RedisError."""
    if not batch_ids:
        return []
    asked = cast("list[bytes | None]", redis().mget([_asked_key(task, batch_id) for batch_id in batch_ids]))
    waiting = batches_waiting(on)
    return [
        batch_id
        for batch_id, moment in zip(batch_ids, asked, strict=True)
        if moment is None and batch_id not in waiting
    ]


def batches_waiting(name: str) -> set[UUID]:
    """The batches that tasks of this queue are for. Raises RedisError."""
    # Each task says in its id whom it is for, so that it need not be fetched.
    found = (_TASK_ID.fullmatch(str(job_id)) for job_id in queue(name).get_job_ids())
    return {UUID(task[1]) for task in found if task is not None}


def waiting() -> dict[str, int]:
    """How much each queue holds: the tickets of each plan, and tasks. Raises RedisError."""
    names = [*plan_queues(), INGESTS_QUEUE, TASKS_QUEUE, DELIVERIES_QUEUE]
    with redis().pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.llen(queue(name).key)
        return dict(zip(names, pipeline.execute(), strict=True))


def finished_channel(batch_id: UUID) -> str:
    """Where the end of a single job is told to a request that waits for it."""
    return f"batchyard:finished:{batch_id.hex}"
