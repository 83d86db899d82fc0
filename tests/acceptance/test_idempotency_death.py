"""Web processes that die between a commit and its answer: under its key the request comes again, and was done once."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest

from common import accounts, ids, keys, queue
from common.keys import Caller
from tests import work
from tests.customer import Customer, answer
from tests.databases import one
from tests.held_commits import held
from tests.waiting import wait_for
from tests.web_process import WebProcess, web_process
from worker import ingest, sweep
from worker.outcomes import record

KEY = {"Idempotency-Key": "once"}
JOB = {"model": "sim", "prompt": "Hi"}


class Twins:
    """Two web processes on one database and no worker. One is to die; a customer's program speaks to both."""

    def __init__(self, env: dict[str, str], opened: ExitStack) -> None:
        key = keys.create(accounts.create("Ann", "pro").id, "test")
        self.caller: Caller = keys.authenticate(key)
        self.doomed: WebProcess = opened.enter_context(web_process(env))
        other = opened.enter_context(web_process(env))
        self.before = opened.enter_context(Customer(self.doomed.url, key))
        self.after = opened.enter_context(Customer(other.url, key))
        self._threads = opened.enter_context(ThreadPoolExecutor())

    def send(self, path: str, **sent: Any) -> Future[httpx2.Response]:
        """To the one that is to die."""
        return self._threads.submit(self.before.http.post, path, headers=KEY, **sent)

    def repeat(self, path: str, **sent: Any) -> httpx2.Response:
        return self.after.http.post(path, headers=KEY, **sent)


@pytest.fixture
def twins(settings: dict[str, str]) -> Iterator[Twins]:
    with ExitStack() as opened:
        yield Twins(settings, opened)


def never_answered(sent: Future[httpx2.Response]) -> None:
    with pytest.raises(httpx2.TransportError):
        sent.result()


def csv() -> dict[str, Any]:
    return {"data": {"model": "sim", "prompt": "{{text}}"}, "files": {"file": ("rows.csv", io.BytesIO(b"text\na\n"))}}


def file() -> dict[str, Any]:
    return {"data": {"purpose": "batch"}, "files": {"file": ("rows.jsonl", io.BytesIO(b"{}\n"))}}


def cancelled(caller: Caller) -> str:
    return f"/v1/jobs/{ids.show('job_', work.single(caller))}/cancel"


@pytest.mark.parametrize(
    ("path", "sent", "rows"),
    [
        (lambda caller: "/v1/jobs", lambda: {"json": JOB}, "SELECT count(*) FROM jobs"),
        (lambda caller: "/v1/batches", csv, "SELECT count(*) FROM batches JOIN files ON files.id = input_file_id"),
        (lambda caller: "/v1/files", file, "SELECT count(*) FROM files"),
        (cancelled, dict, "SELECT count(*) FROM results WHERE outcome = 'cancelled'"),
    ],
    ids=["job", "CSV", "file", "cancel"],
)
def test_a_request_whose_process_died_after_the_commit_is_answered_again_and_was_done_once(
    twins: Twins,
    database: psycopg.Connection,
    path: Callable[[Caller], str],
    sent: Callable[[], dict[str, Any]],
    rows: str,
) -> None:
    to = path(twins.caller)
    with held(database) as requests:
        first = twins.send(to, **sent())
        requests.wait_for()
        assert database.execute(rows.encode()).fetchone() == (0,)
        # It stands still, so that it can do no more when PostgreSQL goes on.
        twins.doomed.freeze()
    wait_for(lambda: database.execute(rows.encode()).fetchone(), lambda found: found == (1,))
    twins.doomed.kill()
    never_answered(first)
    answers = [twins.repeat(to, **sent()) for _ in range(2)]
    for response in answers:
        assert response.headers["idempotency-replayed"] == "true"
        assert answer(response) == answer(answers[0])
    assert database.execute(rows.encode()).fetchone() == (1,)


def test_what_a_process_that_died_after_the_commit_did_not_enqueue_the_sweep_does(
    twins: Twins, database: psycopg.Connection
) -> None:
    with held(database) as requests:
        sent = twins.send("/v1/batches", **csv())
        requests.wait_for()
        twins.doomed.freeze()
    wait_for(lambda: one(database, "SELECT count(*) FROM batches"), lambda found: found == (1,))
    twins.doomed.kill()
    never_answered(sent)
    again = answer(twins.repeat("/v1/batches", **csv()))
    tasks = queue.queue(queue.INGESTS_QUEUE)
    assert tasks.count == 0, "an answer given again does nothing"
    database.execute("UPDATE batches SET created_at = now() - interval '1 minute'")
    sweep.run()
    assert [job.args for job in tasks.jobs] == [[again["id"].removeprefix("batch_")]]
    ingest.run(UUID(again["id"].removeprefix("batch_")))
    assert twins.after.batch(again["id"])["counts"]["total"] == 1


def test_a_request_whose_process_died_before_the_commit_was_never_done(
    twins: Twins, database: psycopg.Connection
) -> None:
    with held(database, at="answer") as requests:
        sent = twins.send("/v1/jobs", json=JOB)
        requests.wait_for()
        twins.doomed.kill()
        never_answered(sent)
    again = twins.repeat("/v1/jobs", json=JOB)
    assert "idempotency-replayed" not in again.headers
    assert answer(twins.repeat("/v1/jobs", json=JOB)) == answer(again)
    assert one(database, "SELECT count(*) FROM jobs") == (1,)


def test_a_wait_that_was_cut_off_by_a_death_goes_on_for_the_same_job(
    twins: Twins, database: psycopg.Connection
) -> None:
    waiting = {"Prefer": "wait=60"} | KEY
    with ThreadPoolExecutor() as threads:
        first = threads.submit(twins.before.post, "/v1/jobs", JOB, waiting)
        wait_for(lambda: one(database, "SELECT count(*) FROM jobs"), lambda found: found == (1,))
        twins.doomed.kill()
        never_answered(first)
        accepted = twins.after.post("/v1/jobs", JOB, {"Prefer": "wait=1"} | KEY)
        assert (accepted.status_code, answer(accepted)["status"]) == (202, "queued")
        again = threads.submit(twins.after.post, "/v1/jobs", JOB, waiting)
        (claim,) = work.take()
        record([work.outcome(claim, 0)])
        finished = again.result()
    assert (finished.status_code, answer(finished)["status"]) == (200, "completed")
    assert answer(finished)["id"] == answer(accepted)["id"]
    assert finished.headers["preference-applied"] == "wait=60"
    for response in (accepted, finished):
        assert response.headers["idempotency-replayed"] == "true"
    # Without the wish to wait it is the answer as it was kept.
    kept = twins.repeat("/v1/jobs", json=JOB)
    assert (kept.status_code, answer(kept)["status"]) == (202, "queued")
    assert one(database, "SELECT count(*) FROM jobs") == (1,)
