"""How soon work goes on after a death, from the event to the next call by the provider's count; and nothing else of an
emptied Redis stays away."""

from collections.abc import Iterator
from functools import partial

import pytest
import redis

from local.stack import Stack
from tests.sleeping import workers_asleep
from tests.stacks import own_stack
from tests.waiting import Stopwatch, wait_for
from tests.watcher import LONGEST_SECONDS, Watcher, completed, kill, part_done

CONCURRENCY = 16
AFTER_A_KILL_SECONDS = 30
AFTER_AN_EMPTIED_REDIS_SECONDS = 5
# What a worker may have in hand of an emptied Redis' tickets: the claims that it makes ahead.
IN_HAND_ROWS = 4 * CONCURRENCY


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    with own_stack(services, home, workers=2, WORKER_CONCURRENCY=CONCURRENCY) as stack:
        yield stack


@pytest.fixture
def customer(stack: Stack) -> Iterator[Watcher]:
    with Watcher(stack) as customer:
        customer.reset_provider()
        yield customer


def test_in_an_emptied_redis_work_goes_on_within_seconds(stack: Stack, customer: Watcher) -> None:
    batch_id = customer.begin("sim-latency-100ms")
    customer.wait_for(batch_id, part_done)
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        connection.flushdb()
    since_the_emptying = Stopwatch()
    called = customer.calls()["started"]

    wait_for(customer.calls, lambda calls: calls["started"] > called + IN_HAND_ROWS, LONGEST_SECONDS)
    assert since_the_emptying.seconds < AFTER_AN_EMPTIED_REDIS_SECONDS
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)
    assert customer.repeated_calls() == {}


def test_in_an_emptied_redis_a_new_job_starts_within_seconds(stack: Stack, customer: Watcher) -> None:
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        connection.flushdb()
    since_the_emptying = Stopwatch()
    job = customer.submit({"model": "sim", "prompt": "Hello"})
    customer.ended_job(job["id"])
    assert since_the_emptying.seconds < AFTER_AN_EMPTIED_REDIS_SECONDS


def test_of_an_emptied_redis_every_task_comes_again_and_the_workers_are_shown_again(
    stack: Stack, customer: Watcher
) -> None:
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        wait_for(lambda: connection.scard("rq:workers"), lambda workers: workers == 2)
        with workers_asleep(stack):
            jobs = [customer.submit({"model": "sim", "prompt": "Hello"}) for _ in range(3)]
            batches = [customer.create_batch(b"text\na\nb\n") for _ in range(2)]
            connection.flushdb()
        assert all(customer.ended_job(job["id"])["status"] == "completed" for job in jobs)
        assert all(customer.ended_batch(batch["id"])["counts"]["succeeded"] == 2 for batch in batches)
        names = wait_for(lambda: connection.smembers("rq:workers"), lambda found: len(found) == 2)
        shown = [wait_for(partial(connection.hgetall, name), lambda found: b"birth" in found) for name in names]
        assert all(worker[b"hostname"] for worker in shown)
        alive = {str(stack.processes[name].pid).encode() for name in ("worker-1", "worker-2")}
        assert {worker[b"pid"] for worker in shown} == alive


def test_the_tickets_of_finished_work_leave_nothing_behind_in_redis(stack: Stack, customer: Watcher) -> None:
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        # Those of the batches before are for deliverers, of which there is none here.
        kept = {b"rq:job:" + job_id for job_id in connection.lrange("rq:queue:deliveries", 0, -1)}
        for _ in range(20):
            job = customer.submit({"model": "sim", "prompt": "Hello"})
            assert customer.ended_job(job["id"])["status"] == "completed"
        wait_for(lambda: set(connection.scan_iter("rq:job:*")) - kept, lambda found: not found)
        assert [*connection.scan_iter("rq:queue:*:intermediate")] == []


def test_rows_of_a_killed_worker_are_called_again_within_its_lease_and_a_sweep(stack: Stack, customer: Watcher) -> None:
    batch_id = customer.begin()
    customer.wait_for(batch_id, part_done)
    kill(stack.processes["worker-1"])
    since_the_kill = Stopwatch()

    wait_for(customer.repeated_calls, bool, LONGEST_SECONDS)
    assert since_the_kill.seconds < AFTER_A_KILL_SECONDS
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)
