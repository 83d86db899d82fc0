"""An emptied Redis, with real processes: noticed in seconds, and all that it told of is told again."""

import time
from collections.abc import Iterator

import pytest
import redis

from local.stack import Stack
from tests.customer import Customer
from tests.sleeping import worker_asleep
from tests.waiting import wait_for

RESUMED_SECONDS = 5


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), workers=1, durable=False, keep=False) as stack:
        yield stack


@pytest.fixture
def customer(stack: Stack) -> Iterator[Customer]:
    with Customer(stack.base_url, stack.env["API_KEY"]) as customer:
        yield customer


def test_work_goes_on_within_seconds_and_the_worker_is_shown_again(stack: Stack, customer: Customer) -> None:
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        wait_for(lambda: connection.scard("rq:workers"), bool)
        with worker_asleep(stack):
            jobs = [customer.submit({"model": "sim", "prompt": "Hello"}) for _ in range(3)]
            batch = customer.create_batch(b"text\na\nb\n")
            stopped = customer.create_batch(b"text\na\nb\n")
            connection.flushdb()
            began = time.monotonic()
        assert all(customer.ended_job(job["id"])["status"] == "completed" for job in jobs)
        assert customer.ended_batch(batch["id"])["counts"]["succeeded"] == 2
        assert customer.ended_batch(stopped["id"])["counts"]["succeeded"] == 2
        assert time.monotonic() - began < RESUMED_SECONDS
        (worker,) = wait_for(lambda: connection.smembers("rq:workers"), bool)
        fields = wait_for(lambda: connection.hgetall(worker), lambda found: b"birth" in found)
        assert fields[b"hostname"]
        assert fields[b"pid"] == str(stack.processes["worker-1"].pid).encode()


def test_a_killed_workers_tickets_leave_nothing_behind_in_redis(stack: Stack, customer: Customer) -> None:
    for _ in range(20):
        job = customer.submit({"model": "sim", "prompt": "Hello"})
        assert customer.ended_job(job["id"])["status"] == "completed"
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        kept = wait_for(lambda: [*connection.scan_iter("rq:job:*")], lambda found: not found)
        assert [*connection.scan_iter("rq:queue:*:intermediate")] == kept == []
