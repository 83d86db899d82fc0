"""Requests of one key at the same time, through two web processes: one is done, and all have its answer."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx2
import psycopg
import pytest

from common import accounts, idempotency, keys, queue
from tests.customer import Customer, answer, refusal
from tests.databases import one
from tests.held_commits import held
from tests.waiting import Stopwatch, wait_for
from tests.web_process import web_process

AT_ONCE = 24
KEY = {"Idempotency-Key": "at once"}
JOB = {"model": "sim", "prompt": "Hi"}


@pytest.fixture
def customer(settings: dict[str, str]) -> Iterator[Customer]:
    """Of a Batchyard with two web processes and no worker."""
    key = keys.create(accounts.create("Ann", "pro").id, "test")
    with web_process(settings, processes=2) as web, Customer(web.url, key) as customer:
        yield customer


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as executor:
        yield executor


def submit(customer: Customer, sent: dict[str, str] = JOB) -> httpx2.Response:
    # A connection of its own: either process may take it.
    return httpx2.post(
        customer.http.base_url.join("/v1/jobs"),
        json=sent,
        headers=KEY | {"Authorization": f"Bearer {customer.key}"},
        timeout=60,
        trust_env=False,
    )


def upload(customer: Customer) -> httpx2.Response:
    form = {"model": "sim", "prompt": "About {{text}}"}
    files = {"file": ("rows.csv", b"text\n" + b"row\n" * 200_000, "text/csv")}
    return customer.http.post("/v1/batches", data=form, files=files, headers=KEY)


def replayed(response: httpx2.Response) -> bool:
    return "idempotency-replayed" in response.headers


def stored_files(settings: dict[str, str]) -> int:
    folder = Path(url2pathname(urlsplit(settings["STORAGE_URL"]).path))
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize(("send", "status"), [(submit, 202), (upload, 202)], ids=["job", "CSV"])
def test_many_of_one_key_at_once_are_done_once_and_answered_alike(
    settings: dict[str, str],
    database: psycopg.Connection,
    customer: Customer,
    threads: ThreadPoolExecutor,
    send: Callable[[Customer], httpx2.Response],
    status: int,
) -> None:
    responses = list(threads.map(send, [customer] * AT_ONCE))
    assert {response.status_code for response in responses} == {status}
    assert len({response.content for response in responses}) == 1
    assert sum(not replayed(response) for response in responses) == 1
    assert one(database, "SELECT count(*) FROM batches") == (1,)
    assert stored_files(settings) == (1 if send is upload else 0)
    assert len(queue.queue(queue.INGESTS_QUEUE).jobs) == (1 if send is upload else 0)


def test_the_second_of_two_waits_for_the_first_and_workers_hear_of_it_once_it_is_committed(
    database: psycopg.Connection, customer: Customer, threads: ThreadPoolExecutor
) -> None:
    tickets = queue.queue(queue.plan_queue("pro"))
    with held(database) as requests:
        first = threads.submit(submit, customer)
        requests.wait_for()
        second = threads.submit(submit, customer)
        other = threads.submit(submit, customer, JOB | {"prompt": "Ho"})
        wait_for_blocked(database, 2)
        assert not any(request.done() for request in (first, second, other))
        assert (one(database, "SELECT count(*) FROM jobs"), tickets.count) == ((0,), 0)
    assert answer(first.result()) == answer(second.result())
    assert [replayed(request.result()) for request in (first, second)] == [False, True]
    assert refusal(other.result(), 422)["code"] == "idempotency_key_reused"
    assert (one(database, "SELECT count(*) FROM jobs"), tickets.count) == ((1,), 1)


def wait_for_blocked(database: psycopg.Connection, requests: int) -> None:
    """Until so many requests wait for another's key."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
    wait_for(lambda: one(database, query), lambda found: found == (requests,))


def test_a_request_that_waited_too_long_for_the_first_is_told_to_come_again_soon(
    database: psycopg.Connection, customer: Customer, threads: ThreadPoolExecutor
) -> None:
    with held(database) as requests:
        first = threads.submit(submit, customer)
        requests.wait_for()
        began, waiting = time.monotonic(), Stopwatch()
        second = submit(customer)
        assert time.monotonic() - began > idempotency.WAIT_SECONDS - 0.5
        assert waiting.seconds < idempotency.WAIT_SECONDS + 5
        error = refusal(second, 409)
    assert (error["code"], error["param"]) == ("idempotency_in_progress", "Idempotency-Key")
    assert second.headers["x-should-retry"] == "true"
    assert int(second.headers["retry-after"]) >= 1
    assert answer(first.result()) == answer(submit(customer))


def test_when_the_first_fails_the_one_that_waited_for_it_is_done(
    database: psycopg.Connection, customer: Customer, threads: ThreadPoolExecutor
) -> None:
    with held(database) as requests:
        first = threads.submit(submit, customer)
        requests.wait_for()
        second: Future[httpx2.Response] = threads.submit(submit, customer)
        wait_for_blocked(database, 1)
        requests.end()
        assert refusal(first.result(), 503)["code"] == "database_away"
        # The second stands at its own commit now.
        requests.wait_for()
    assert not replayed(second.result())
    assert answer(second.result()) == answer(submit(customer))
    assert one(database, "SELECT count(*) FROM jobs") == (1,)
