"""`flask --app wsgi doctor`: each end is told once, and nothing is told that is not so."""

from collections.abc import Callable
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest

from common import batches, ids, jobs, workers
from common.keys import Caller
from common.submission_webhooks import Webhook
from tests import work
from tests.web_client import WebClient
from worker import closing, retrying
from worker.outcomes import record

URL = "https://hooks.example.com/"
Doctor = Callable[[], list[str]]


@pytest.fixture
def doctor(web: WebClient) -> Doctor:
    """What the doctor finds."""

    def look() -> list[str]:
        result = web.app.test_cli_runner().invoke(args=["doctor"])
        *found, last = result.output.splitlines()
        assert last.startswith("checked "), result.output
        assert result.exit_code == bool(found), result.output
        return found

    return look


def single(of: Caller, *events: str) -> UUID:
    webhook = Webhook(URL, list(events) or None)
    return jobs.submit(of, "/v1/completions", {"model": "sim", "prompt": "Hi"}, None, webhook=webhook).batch_id


def bulk(of: Caller) -> UUID:
    return work.requests(of, [work.request(number) for number in range(2)], webhook=Webhook(URL))


@pytest.fixture
def lived(database: psycopg.Connection) -> dict[str, UUID]:
    """Jobs and batches in all kinds of states: some named a URL, one has been retried."""
    of = work.caller()
    made = {"heard": single(of), "unwanted": single(of, "job.failed"), "unheard": work.single(of), "batch": bulk(of)}
    for claim in work.all_claims():
        record(work.outcomes(claim, "failed" if claim.batch_id == made["batch"] else "succeeded"))
    shown_id = ids.show("batch_", made["batch"])
    batches.retry(of, shown_id)
    retrying.retry(made["batch"])
    batches.cancel(of.account_id, shown_id)
    closing.close(made["batch"])
    made |= {"running": bulk(of), "waiting": single(of)}
    workers.beat("worker A", "here", 1)
    return made


def test_a_database_in_the_middle_of_its_work_is_in_order(doctor: Doctor, lived: dict[str, UUID]) -> None:
    assert doctor() == []


@pytest.mark.parametrize(
    ("which", "breaks", "problem"),
    [
        ("heard", "DELETE FROM events WHERE batch_id = %s", "job.completed is not told; the last that is: nothing"),
        ("batch", "DELETE FROM events WHERE batch_id = %s", "batch.cancelled is not told; the last that is: nothing"),
        (
            "batch",
            "DELETE FROM events WHERE batch_id = %s AND type = 'batch.cancelled'",
            "batch.cancelled is not told; the last that is: batch.in_progress",
        ),
        (
            "heard",
            "INSERT INTO events SELECT uuidv7(), account_id, type, batch_id, data FROM events WHERE batch_id = %s",
            "its end is told 2 times",
        ),
        (
            "running",
            "INSERT INTO events SELECT uuidv7(), account_id, 'batch.completed', id, '{}' FROM batches WHERE id = %s",
            "is in_progress, and batch.completed is told",
        ),
        (
            "waiting",
            "INSERT INTO events SELECT uuidv7(), account_id, 'job.failed', id, '{}' FROM batches WHERE id = %s",
            "is in_progress, and job.failed is told",
        ),
        (
            "unwanted",
            "INSERT INTO events SELECT uuidv7(), account_id, 'job.failed', id, '{}' FROM batches WHERE id = %s",
            "job.completed is not told; the last that is: job.failed",
        ),
    ],
)
def test_an_event_that_is_missing_or_untrue_is_named(
    doctor: Doctor,
    database: psycopg.Connection,
    lived: dict[str, UUID],
    which: str,
    breaks: LiteralString,
    problem: str,
) -> None:
    assert database.execute(breaks, [lived[which]]).rowcount > 0
    shown_id = ids.show("batch_" if which in ("batch", "running") else "job_", lived[which])
    assert doctor() == [f"events: {shown_id}: {problem}"]


def test_events_whose_time_is_over_are_not_missed(
    doctor: Doctor, database: psycopg.Connection, lived: dict[str, UUID]
) -> None:
    database.execute("UPDATE batches SET ended_at = ended_at - interval '30 days' WHERE ended_at IS NOT NULL")
    database.execute("DELETE FROM events WHERE batch_id = ANY(%s)", [[lived["heard"], lived["batch"]]])
    assert doctor() == []


def test_batches_of_before_there_were_events_are_in_order(doctor: Doctor, database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 2)
    for claim in work.all_claims():
        record(work.outcomes(claim))
    database.execute("DELETE FROM events")
    workers.beat("worker A", "here", 1)
    assert doctor() == []
