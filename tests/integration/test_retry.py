"""Retrying a batch: what may succeed next time runs again, everything else stays, and every number stays exact."""

import random
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest
from werkzeug.test import TestResponse

from common import batches, ids, queue
from common.errors import Conflict
from tests import work
from tests.databases import one
from tests.exact import check_exact, file_id
from tests.web_client import WebClient, refused
from tests.work import all_claims, take
from worker import claims, closing, retention, retrying, sweep
from worker.outcomes import record


def retry(web: WebClient, batch_id: UUID) -> TestResponse:
    return web.post(f"/v1/batches/{ids.show('batch_', batch_id)}/retry")


def run_again(web: WebClient, batch_id: UUID) -> None:
    """Retries the batch and does the worker's part of it at once."""
    assert retry(web, batch_id).status_code == 200
    retrying.retry(batch_id)


def cancel(web: WebClient, batch_id: UUID) -> TestResponse:
    return web.post(f"/v1/batches/{ids.show('batch_', batch_id)}/cancel")


def content(web: WebClient, database: psycopg.Connection, batch_id: UUID, **query: int) -> TestResponse:
    return web.get(f"/v1/files/{file_id(database, batch_id, True)}/content", **query)


def make(web: WebClient, rows: int) -> UUID:
    return work.requests(web.caller, [work.request(number) for number in range(rows)])


def finish(kinds: list[str], **fields: object) -> None:
    """Runs all that is pending; each row ends as `kinds` has it."""
    for claim in all_claims():
        record([work.outcome(claim, job.seq, kinds[job.seq], **fields) for job in claim.jobs])


def test_rows_that_failed_or_never_ran_run_again_and_nothing_else_does(
    web: WebClient, database: psycopg.Connection
) -> None:
    sent = [work.request(number) if number % 7 else "bad" for number in range(30)]
    batch_id = work.requests(web.caller, sent, on_error="skip")
    first, second = take(rows=10)[0], take(rows=10)[0]
    record([work.outcome(first, job.seq, ("failed", "succeeded")[job.seq % 2]) for job in first.jobs])
    assert cancel(web, batch_id).status_code == 200
    closing.close(batch_id)
    record(work.outcomes(second, "cancelled"))
    before = web.batch(batch_id)
    assert before["status"] == "cancelled"
    check_exact(web, database, batch_id)

    answer = retry(web, batch_id)
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "in_progress"
    assert answer.get_json()["cancelled_at"] is None
    assert queue.queue("tasks").jobs[-1].func_name == "worker.tasks.retry"
    for _ in range(2):
        retrying.retry(batch_id)
    counts = web.batch(batch_id)["counts"]
    assert counts == {"total": 30, "pending": 21, "succeeded": 4, "failed": 5, "cancelled": 0, "expired": 0}
    again = all_claims()
    assert sorted(job.seq for claim in again for job in claim.jobs) == [
        seq for seq in range(30) if seq % 7 and not (seq < 10 and seq % 2)
    ]
    for claim in again:
        record(work.outcomes(claim))
    after = web.batch(batch_id)
    assert after["status"] == "completed"
    assert after["counts"] | {"succeeded": 25, "failed": 5} == after["counts"]
    assert database.execute("SELECT DISTINCT attempts FROM results WHERE outcome = 'failed'").fetchall() == [(0,)]
    check_exact(web, database, batch_id)
    assert retry(web, batch_id).status_code == 409, "what is left never ran because it is bad"


def test_a_batch_may_be_retried_until_every_row_has_succeeded(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 60)
    chance = random.Random(3)
    while True:
        kinds = [chance.choice(["succeeded", "failed"]) for _ in range(60)]
        finish(kinds)
        check_exact(web, database, batch_id)
        if web.batch(batch_id)["counts"]["failed"] == 0:
            break
        run_again(web, batch_id)
    assert one(database, "SELECT count(*) FROM usage_records") == (60,)
    assert refused(retry(web, batch_id), 409)["message"] == "The batch has no row that could run again."


@pytest.mark.usefixtures("database")
def test_a_batch_that_runs_cannot_be_retried(web: WebClient) -> None:
    batch_id = make(web, 3)
    for _ in range(2):
        answer = retry(web, batch_id)
        refused(answer, 409)
        assert answer.headers["x-should-retry"] == "false"
        take()


def test_of_many_that_retry_a_batch_at_once_one_does(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 50)
    finish(["failed"] * 50)

    def try_it(_: int) -> bool:
        try:
            batches.retry(web.caller, ids.show("batch_", batch_id))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(try_it, range(8))) == 1
        list(threads.map(retrying.retry, [batch_id] * 4))
    assert web.batch(batch_id)["counts"]["pending"] == 50
    finish(["succeeded"] * 50)
    check_exact(web, database, batch_id)


def test_a_retry_whose_task_was_lost_gets_it_again(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 5)
    finish(["failed"] * 5)
    retry(web, batch_id)
    queue.redis().flushdb()
    for _ in range(2):
        sweep.run()
    assert [(job.func_name, job.args) for job in queue.queue("tasks").jobs] == [("worker.tasks.retry", [batch_id.hex])]
    retrying.retry(batch_id)
    queue.redis().flushdb()
    sweep.run()
    assert queue.queue("tasks").jobs == []
    assert len(queue.queue("plan-pro").jobs) == 1
    finish(["succeeded"] * 5)
    check_exact(web, database, batch_id)


def test_a_retry_that_is_cancelled_before_it_begins_leaves_the_batch_as_it_had_ended(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = make(web, 6)
    finish(["succeeded", "failed"] * 3)
    retry(web, batch_id)
    assert cancel(web, batch_id).get_json()["status"] == "cancelling"
    closing.close(batch_id)
    assert web.batch(batch_id)["status"] == "cancelling", "its rows are still to be looked at"
    retrying.retry(batch_id)
    shown = web.batch(batch_id)
    assert shown["status"] == "cancelled"
    assert shown["counts"] | {"succeeded": 3, "failed": 3, "cancelled": 0} == shown["counts"]
    check_exact(web, database, batch_id)


@pytest.mark.parametrize(("state", "outcome"), [("cancelling", "cancelled"), ("expiring", "expired")])
def test_a_retry_that_is_stopped_in_the_middle_ends_and_may_be_retried_again(
    web: WebClient, database: psycopg.Connection, state: str, outcome: str
) -> None:
    batch_id = make(web, 60)
    finish(["succeeded" if seq % 3 else "failed" for seq in range(60)])
    run_again(web, batch_id)
    (running,) = take(rows=4)
    record(work.outcomes(running)[:2])
    if state == "cancelling":
        cancel(web, batch_id)
    else:
        database.execute("UPDATE batches SET expires_at = now() - interval '1 second'")
        sweep.run()
        assert web.batch(batch_id)["status"] == "finalizing"
    closing.close(batch_id)
    record(work.outcomes(running, outcome))
    database.execute("UPDATE claims SET lease_until = now() - interval '1 second'")
    sweep.run()
    closing.close(batch_id)
    assert web.batch(batch_id)["status"] == outcome
    check_exact(web, database, batch_id)
    run_again(web, batch_id)
    finish(["succeeded"] * 60)
    assert web.batch(batch_id)["counts"]["succeeded"] == 60
    check_exact(web, database, batch_id)


def test_the_window_of_a_retried_batch_begins_anew(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 3)
    database.execute("UPDATE batches SET expires_at = now() - interval '1 second'")
    sweep.run()
    closing.close(batch_id)
    assert web.batch(batch_id)["status"] == "expired"
    retry(web, batch_id)
    sweep.run()
    retrying.retry(batch_id)
    sweep.run()
    assert web.batch(batch_id)["status"] == "in_progress"
    finish(["succeeded"] * 3)
    check_exact(web, database, batch_id)


def test_a_workers_outcomes_from_before_the_retry_are_not_written_after_it(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = make(web, 4)
    (claim,) = take()
    record(work.outcomes(claim, "failed"))
    retry(web, batch_id)
    record(work.outcomes(claim, "failed"))
    retrying.retry(batch_id)
    record(work.outcomes(claim))
    assert web.batch(batch_id)["counts"]["pending"] == 4
    (again,) = take()
    record(work.outcomes(claim))
    record(work.outcomes(again))
    check_exact(web, database, batch_id)


def test_a_lost_workers_rows_of_a_retry_come_back(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 40)
    finish(["failed" if seq % 4 == 0 else "succeeded" for seq in range(40)])
    run_again(web, batch_id)
    (claim,) = take(rows=100)
    assert len(claim.jobs) == 10
    record(work.outcomes(claim)[3:6])
    database.execute("UPDATE claims SET lease_until = now() - interval '1 second'")
    sweep.run()
    assert one(database, "SELECT returned FROM batches") == (7,)
    finish(["succeeded"] * 40)
    check_exact(web, database, batch_id)


def test_a_row_that_has_its_receipt_but_no_answer_is_not_paid_for_twice(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = make(web, 2)
    (claim,) = take()
    unstored = work.outcome(claim, 0, "failed", error_code="unrecordable_answer", usage=work.USAGE, price=work.PRICE)
    record([unstored, work.outcome(claim, 1, "failed")])
    run_again(web, batch_id)
    (again,) = all_claims()
    assert [job.seq for job in again.jobs] == [1]
    record(work.outcomes(again))
    check_exact(web, database, batch_id)
    assert retry(web, batch_id).status_code == 409


def test_a_retry_and_retention_never_have_one_batch_both(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 5)
    finish(["failed"] * 5)
    retry(web, batch_id)
    retention.run()
    retrying.retry(batch_id)
    retention.run()
    finish(["failed"] * 5)
    check_exact(web, database, batch_id)
    database.execute("UPDATE batches SET results_expire_at = now() - interval '1 second'")
    assert retry(web, batch_id).status_code == 409
    retention.run()
    assert refused(retry(web, batch_id), 409)["message"].startswith("The batch's rows have been deleted")


def test_while_the_rows_of_a_retry_are_sought_its_files_show_nothing_that_they_would_take_back(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = make(web, 6)
    finish(["succeeded", "failed", "succeeded", "succeeded", "failed", "succeeded"])
    retry(web, batch_id)
    early = content(web, database, batch_id)
    assert (early.headers["X-Incomplete"], early.headers["X-Last-Line"], early.data) == ("true", "0", b"")
    retrying.retry(batch_id)
    assert content(web, database, batch_id).headers["X-Last-Line"] == "1"
    finish(["succeeded"] * 6)
    check_exact(web, database, batch_id)


def test_failures_that_lie_far_apart_in_a_large_batch_are_claimed_in_small_steps(
    web: WebClient, database: psycopg.Connection
) -> None:
    rows, apart = 100_000, 997
    batch_id = make(web, 1)
    finish(["failed"])
    # What running the batch would have left, written at once.
    for statement in (
        """INSERT INTO jobs SELECT batch_id, n, account_id, 'row ' || n, body
        FROM jobs, generate_series(1, %(rows)s - 1) n""",
        """INSERT INTO results
            (batch_id, seq, account_id, outcome, status_code, body, error_code, attempts, finished_at)
        SELECT batch_id, n, account_id, CASE n %% %(apart)s WHEN 0 THEN 'failed' ELSE 'succeeded' END, 200, '{}',
            CASE n %% %(apart)s WHEN 0 THEN 'timeout' END, 1, now() FROM jobs, generate_series(1, %(rows)s - 1) n
        WHERE seq = 0""",
        """UPDATE batches SET total = %(rows)s, cursor = %(rows)s, output_bytes = 1_000_000, error_bytes = 1_000_000,
        failed = (SELECT count(*) FROM results WHERE outcome = 'failed'),
        succeeded = (SELECT count(*) FROM results WHERE outcome = 'succeeded')""",
        "ANALYZE",
    ):
        database.execute(statement, {"rows": rows, "apart": apart})
    run_again(web, batch_id)
    failed = list(range(0, rows, apart))
    assert one(database, "SELECT returned, failed FROM batches") == (len(failed), 0)
    assert one(database, "SELECT max(end_seq - first_seq) <= %s FROM claims", retrying.ROWS_PER_RANGE) == (True,)
    found: list[int] = []
    while taken := take(rows=256):
        width = sum(claim.jobs[-1].seq - claim.jobs[0].seq for claim in taken)
        assert width <= claims.MAX_RANGE_ROWS + retrying.ROWS_PER_RANGE
        found += [job.seq for claim in taken for job in claim.jobs]
        for claim in taken:
            record(work.outcomes(claim))
    assert sorted(found) == failed
    assert one(database, "SELECT state, succeeded, failed, returned FROM batches") == ("completed", rows, 0, 0)
    assert one(database, "SELECT count(*) FROM claims") == (0,)
