"""PostgreSQL, Redis, web and the provider, killed under load and started again by their supervisor."""

import signal
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx2
import psutil
import pytest

from local.stack import Stack
from tests.customer import refusal
from tests.waiting import wait_for
from tests.watcher import LONGEST_SECONDS, ROWS, Watcher, completed, kill, part_done

T = TypeVar("T")

CONCURRENCY = 33
JOB = {"model": "sim", "prompt": "Hello"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Durable: a PostgreSQL that is killed must come back with what it has committed."""
    home = tmp_path_factory.mktemp("stack")
    settings = {"WORKER_CONCURRENCY": str(CONCURRENCY), "WEB_PROCESSES": "2"}
    with Stack(home, extra_env=settings, with_stripe=False, keep=False, longest_restart_seconds=1) as stack:
        yield stack


@pytest.fixture
def customer(stack: Stack) -> Iterator[Watcher]:
    with Watcher(stack) as customer:
        customer.reset_provider()
        yield customer


def tended(stack: Stack, look: Callable[[], T], done: Callable[[T], bool]) -> T:
    """As wait_for, with the supervisor at work."""

    def looked() -> T:
        stack.tend()
        return look()

    return wait_for(looked, done, LONGEST_SECONDS)


def ready(customer: Watcher) -> bool:
    try:
        return customer.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT], ids=["killed", "at once", "fast"])
def test_while_postgresql_restarts_web_says_so_and_finished_calls_wait_and_are_not_made_again(
    stack: Stack, customer: Watcher, sign: signal.Signals
) -> None:
    batch_id = customer.begin()
    customer.wait_for(batch_id, part_done)
    postgres = stack.processes["postgres"]
    postgres.send(sign)
    assert postgres.wait(10)

    unready = customer.get("/readyz")
    assert (unready.status_code, unready.json()["checks"]["postgresql"]) == (503, "does not answer")
    assert customer.get("/healthz").status_code == 200
    refused = customer.post("/v1/jobs", JOB)
    assert refusal(refused, 503)["code"] == "database_away"
    assert int(refused.headers["retry-after"]) >= 1
    # The calls in flight end, and nobody has written down how.
    calls = wait_for(customer.calls, lambda calls: calls["in_flight"] == 0, LONGEST_SECONDS)
    assert calls["started"] < ROWS, "nothing was left to do: the test shows nothing"

    tended(stack, lambda: ready(customer), bool)
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)
    assert customer.repeated_calls() == {}


def test_a_redis_that_is_killed_stops_no_customer_and_costs_no_call(stack: Stack, customer: Watcher) -> None:
    batch_id = customer.begin()
    customer.wait_for(batch_id, part_done)
    kill(stack.processes["redis"])

    unready = customer.get("/readyz")
    assert (unready.status_code, unready.json()["checks"]["redis"]) == (503, "does not answer")
    job_id = customer.begin_job()
    again = customer.begin()

    tended(stack, lambda: ready(customer), bool)
    assert customer.ended_job(job_id, LONGEST_SECONDS)["status"] == "completed"
    for accepted in (batch_id, again):
        customer.wait_for(accepted, completed)
        customer.assert_every_row_ended_once(accepted)


def test_a_serving_process_that_is_killed_leaves_the_others_serving(stack: Stack, customer: Watcher) -> None:
    leader = psutil.Process(stack.processes["web"].pid)
    doomed = leader.children()[0]
    doomed.kill()
    doomed.wait(10)
    assert customer.ended_job(customer.begin_job())["status"] == "completed"
    wait_for(leader.children, lambda serving: len(serving) == 2)


def test_a_web_that_is_killed_whole_serves_again_and_has_lost_nothing(stack: Stack, customer: Watcher) -> None:
    job_id = customer.begin_job()
    kill(stack.processes["web"])
    tended(stack, lambda: ready(customer), bool)
    assert customer.ended_job(job_id)["status"] == "completed"


def test_a_provider_that_is_gone_for_seconds_fails_no_job(stack: Stack, customer: Watcher) -> None:
    batch_id = customer.begin()
    customer.wait_for(batch_id, part_done)
    kill(stack.processes["provider"])
    # The supervisor brings it back after a second; calls meet a closed port until then.
    tended(stack, lambda: stack.processes["provider"].running, bool)
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)
