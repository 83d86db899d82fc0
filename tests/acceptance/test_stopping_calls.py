"""Calls in flight that are to end: cancelled, paused or over their time, in whichever process they run."""

import signal
from collections.abc import Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from local.stack import Stack
from tests.customer import Customer, answer
from tests.databases import one
from tests.stacks import own_stack
from tests.waiting import Stopwatch, wait_for

CONCURRENCY = 20
ROWS = 200
# What the README promises, from the answer to the request on.
PROMISED_SECONDS = 2
# Sweeps and leases, on a machine that has other things to do.
LONGEST_SECONDS = 60


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two worker processes."""
    with own_stack(services, tmp_path_factory.mktemp("stack"), workers=2, WORKER_CONCURRENCY=CONCURRENCY) as stack:
        yield stack


@pytest.fixture
def customer(stack: Stack) -> Iterator[Customer]:
    with Customer(stack.base_url, stack.env["API_KEY"]) as customer:
        yield customer


@pytest.fixture
def provider(stack: Stack) -> Iterator[str]:
    """The address of the provider's settings and counts; every call hangs."""
    address = stack.env["PROVIDER_URL"].removesuffix("/v1") + "/_sim"
    httpx2.put(f"{address}/settings", json={"faults": [{"fault": "hang"}]}, trust_env=False).raise_for_status()
    yield address
    httpx2.put(f"{address}/settings", json={}, trust_env=False).raise_for_status()


def in_flight(provider: str) -> int:
    return int(httpx2.get(f"{provider}/calls", trust_env=False).json()["in_flight"])


def begin(customer: Customer, stack: Stack, provider: str) -> dict[str, Any]:
    """A batch whose calls hang in both processes."""
    content = "text\n" + "".join(f"row {number}\n" for number in range(ROWS))
    batch = customer.create_batch(content.encode())
    wait_for(lambda: in_flight(provider), lambda found: found == 2 * CONCURRENCY, LONGEST_SECONDS)
    with psycopg.connect(stack.env["DATABASE_URL"]) as database:
        assert one(database, "SELECT count(DISTINCT worker) FROM claims WHERE state = 'leased'") == (2,)
    return batch


def test_a_cancel_ends_running_calls_in_every_process_within_two_seconds(
    stack: Stack, customer: Customer, provider: str
) -> None:
    batch = begin(customer, stack, provider)
    answer(customer.post(f"/v1/batches/{batch['id']}/cancel"))
    since_the_cancel = Stopwatch()
    wait_for(lambda: in_flight(provider), lambda found: found == 0, LONGEST_SECONDS)
    assert since_the_cancel.seconds < PROMISED_SECONDS
    ended = customer.ended_batch(batch["id"], LONGEST_SECONDS)
    assert (ended["status"], ended["counts"]["cancelled"]) == ("cancelled", ROWS)


def test_a_pause_ends_no_call_and_outlives_the_workers(stack: Stack, customer: Customer, provider: str) -> None:
    batch = begin(customer, stack, provider)
    answer(customer.post(f"/v1/batches/{batch['id']}/pause"))
    httpx2.put(f"{provider}/settings", json={}, trust_env=False).raise_for_status()
    with pytest.raises(AssertionError):
        # As long as a cancel would take to be heard.
        wait_for(lambda: in_flight(provider), lambda found: found < 2 * CONCURRENCY, PROMISED_SECONDS)
    for name in ("worker-1", "worker-2"):
        worker = stack.processes.pop(name)
        worker.send(signal.SIGKILL)
        assert worker.wait(10)
    for _ in range(2):
        stack.start_worker()
    # The dead ones' leases end, and still nothing of it starts.
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as database:
        leased = "SELECT count(*) FROM claims WHERE state = 'leased'"
        wait_for(lambda: one(database, leased), lambda found: found == (0,), LONGEST_SECONDS)
    assert customer.batch(batch["id"])["counts"]["pending"] == ROWS
    answer(customer.post(f"/v1/batches/{batch['id']}/resume"))
    ended = customer.ended_batch(batch["id"], LONGEST_SECONDS)
    assert (ended["status"], ended["counts"]["succeeded"]) == ("completed", ROWS)


def test_a_job_s_call_is_dropped_within_two_seconds_of_its_deadline(customer: Customer, provider: str) -> None:
    since_the_submission = Stopwatch()
    job = customer.submit({"model": "sim", "prompt": "Hi", "expires_in": 3})
    wait_for(lambda: in_flight(provider), lambda found: found == 1, LONGEST_SECONDS)
    wait_for(lambda: in_flight(provider), lambda found: found == 0, LONGEST_SECONDS)
    assert since_the_submission.seconds < 3 + PROMISED_SECONDS
    ended = customer.ended_job(job["id"])
    assert (ended["status"], ended["error"]["code"], ended["attempts"]) == ("expired", "job_expired", 1)
