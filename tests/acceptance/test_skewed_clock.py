"""Workers whose clock is an hour early or late: leases, times and receipts go by PostgreSQL's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import redis

from local.process import ROOT
from local.stack import Stack
from tests.stacks import own_stack
from tests.waiting import Stopwatch, wait_for
from tests.watcher import LONGEST_SECONDS, Watcher, completed, part_done

HOUR_SECONDS = 3_600
CONCURRENCY = 16
AFTER_A_KILL_SECONDS = 30


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With one worker whose clock is right."""
    with own_stack(services, tmp_path_factory.mktemp("stack"), WORKER_CONCURRENCY=CONCURRENCY) as stack:
        yield stack


@pytest.fixture
def customer(stack: Stack) -> Iterator[Watcher]:
    with Watcher(stack) as customer:
        customer.reset_provider()
        yield customer


@contextmanager
def skewed_workers(stack: Stack) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A worker whose clock is ahead and one whose clock is behind, both listening for work; killed in the end."""
    workers = []
    try:
        for seconds in (HOUR_SECONDS, -HOUR_SECONDS):
            command = [sys.executable, "tests/skewed_worker.py", str(seconds)]
            env = {**os.environ, **stack.env, "WORKER_CONCURRENCY": str(CONCURRENCY)}
            with stack.home.log(f"skewed-{seconds}").open("ab") as log:
                workers.append(
                    subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
                )
        for worker in workers:
            wait_for(partial(listens, stack, worker), bool, LONGEST_SECONDS)
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def listens(stack: Stack, worker: subprocess.Popen[bytes]) -> bool:
    assert worker.poll() is None, "the worker ended"
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        return any(f"-{worker.pid}-".encode() in key for key in connection.scan_iter("rq:worker:*"))


def wait_for_claims(customer: Watcher, batch_id: str, workers: list[subprocess.Popen[bytes]]) -> None:
    """Until each of the workers has claimed some of the batch."""
    claimed: set[int] = set()

    def all_claimed() -> bool:
        assert all(worker.poll() is None for worker in workers), "a worker ended"
        held = customer.query("SELECT worker FROM claims WHERE batch_id = %(batch_id)s AND state = 'leased'", batch_id)
        claimed.update(worker.pid for worker in workers if any(f"-{worker.pid}-" in name for (name,) in held))
        return len(claimed) == len(workers)

    wait_for(all_claimed, bool, LONGEST_SECONDS)


def test_workers_with_a_wrong_clock_keep_their_leases_record_the_right_times_and_lose_what_they_held_when_they_die(
    stack: Stack, customer: Watcher
) -> None:
    with skewed_workers(stack) as workers:
        # Several sweeps long: a lease that ended by its worker's own clock would be called again meanwhile.
        batch_id = customer.begin("sim-latency-2s")
        wait_for_claims(customer, batch_id, workers)
        customer.wait_for(batch_id, completed)
        customer.assert_every_row_ended_once(batch_id)
        assert customer.repeated_calls() == {}
        assert customer.query(WRONG_TIMES, batch_id) == []

        batch_id = customer.begin()
        wait_for_claims(customer, batch_id, workers)
        customer.wait_for(batch_id, part_done)
    since_the_kill = Stopwatch()
    wait_for(customer.repeated_calls, bool, LONGEST_SECONDS)
    assert since_the_kill.seconds < AFTER_A_KILL_SECONDS
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)
    assert customer.query(WRONG_TIMES, batch_id) == []


WRONG_TIMES = """
    SELECT r.seq, b.created_at, r.started_at, r.finished_at, u.created_at, now() FROM batches b
    JOIN results r ON r.batch_id = b.id JOIN usage_records u ON u.batch_id = b.id AND u.seq = r.seq
    WHERE b.id = %(batch_id)s AND NOT (b.created_at <= r.started_at AND r.started_at <= r.finished_at
        AND r.finished_at <= now() AND u.created_at = r.finished_at)
"""
