"""Workers whose clock is an hour early or late: leases, times and receipts go by PostgreSQL's."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from local.process import ROOT
from local.stack import Stack
from tests.waiting import wait_for
from tests.watcher import LONGEST_SECONDS, Watcher, completed, part_done

HOUR_SECONDS = 3_600
CONCURRENCY = 16
AFTER_A_KILL_SECONDS = 30


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With one worker whose clock is right."""
    home = tmp_path_factory.mktemp("stack")
    settings = {"WORKER_CONCURRENCY": str(CONCURRENCY)}
    with Stack(home, extra_env=settings, durable=False, keep=False) as stack:
        yield stack


@pytest.fixture
def customer(stack: Stack) -> Iterator[Watcher]:
    with Watcher(stack) as customer:
        customer.reset_provider()
        yield customer


@contextmanager
def skewed_worker(stack: Stack, seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """A worker whose clock is so far ahead, listening for work; killed in the end."""
    command = [sys.executable, "tests/skewed_worker.py", str(seconds)]
    env = {**os.environ, **stack.env, "WORKER_CONCURRENCY": str(CONCURRENCY)}
    with stack.home.log(f"skewed-{seconds}").open("ab") as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: listens(stack, worker), bool, LONGEST_SECONDS)
        yield worker
    finally:
        worker.kill()
        worker.wait()


def listens(stack: Stack, worker: subprocess.Popen[bytes]) -> bool:
    assert worker.poll() is None, "the worker ended"
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        return any(f"-{worker.pid}-".encode() in key for key in connection.scan_iter("rq:worker:*"))


def has_claimed(customer: Watcher, batch_id: str, worker: subprocess.Popen[bytes]) -> bool:
    assert worker.poll() is None, "the worker ended"
    held = customer.query("SELECT worker FROM claims WHERE batch_id = %(batch_id)s AND state = 'leased'", batch_id)
    return any(f"-{worker.pid}-" in name for (name,) in held)


@pytest.mark.parametrize("seconds", [HOUR_SECONDS, -HOUR_SECONDS], ids=["ahead", "behind"])
def test_a_worker_with_a_wrong_clock_keeps_its_leases_and_loses_them_when_it_dies(
    stack: Stack, customer: Watcher, seconds: int
) -> None:
    with skewed_worker(stack, seconds) as worker:
        # Longer than a lease: one that ended by the worker's own clock would be called again meanwhile.
        batch_id = customer.begin("sim-latency-2s")
        wait_for(lambda: has_claimed(customer, batch_id, worker), bool, LONGEST_SECONDS)
        customer.wait_for(batch_id, completed)
        customer.assert_every_row_ended_once(batch_id)
        assert customer.repeated_calls() == {}

        batch_id = customer.begin()
        customer.wait_for(batch_id, part_done)
        wait_for(lambda: has_claimed(customer, batch_id, worker), bool, LONGEST_SECONDS)
    killed = time.monotonic()
    wait_for(customer.repeated_calls, bool, LONGEST_SECONDS)
    assert time.monotonic() - killed < AFTER_A_KILL_SECONDS
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)


@pytest.mark.parametrize("seconds", [HOUR_SECONDS, -HOUR_SECONDS], ids=["ahead", "behind"])
def test_what_a_worker_with_a_wrong_clock_records_has_the_right_time(
    stack: Stack, customer: Watcher, seconds: int
) -> None:
    with skewed_worker(stack, seconds) as worker:
        batch_id = customer.begin()
        wait_for(lambda: has_claimed(customer, batch_id, worker), bool, LONGEST_SECONDS)
        customer.wait_for(batch_id, completed)
    wrong = customer.query(
        "SELECT r.seq, b.created_at, r.started_at, r.finished_at, u.created_at, now() FROM batches b"
        " JOIN results r ON r.batch_id = b.id JOIN usage_records u ON u.batch_id = b.id AND u.seq = r.seq"
        " WHERE b.id = %(batch_id)s AND NOT (b.created_at <= r.started_at AND r.started_at <= r.finished_at"
        " AND r.finished_at <= now() AND u.created_at = r.finished_at)",
        batch_id,
    )
    assert wrong == []
