"""Events are written by the transaction that makes them true, with a delivery for everybody who asked for them."""

from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from common import accounts, batch_pauses, batches, ids, jobs, queue
from common.audit import COMMAND_LINE
from common.keys import Caller
from common.submission_webhooks import Webhook
from common.webhook_events import EVENT_TYPES
from tests import work
from tests.databases import one
from worker import batch_progress, closing, expiry, ingest, retrying, sweep
from worker.outcomes import record

pytestmark = pytest.mark.usefixtures("settings")

URL = "https://hooks.example.com/batchyard"
BODY = {"model": "sim", "prompt": "Hi"}


def told(database: psycopg.Connection, batch_id: UUID) -> list[str]:
    """The events of a batch in their order; each names it."""
    found = database.execute("SELECT type, data ->> 'id' FROM events WHERE batch_id = %s ORDER BY id", [batch_id])
    events = found.fetchall()
    assert {shown for _, shown in events} <= {f"batch_{batch_id.hex}", f"job_{batch_id.hex}"}
    return [name for name, _ in events]


def delivered(database: psycopg.Connection, batch_id: UUID) -> list[tuple[str, str]]:
    """The events of a batch that are to be delivered, and where."""
    query = """
        SELECT e.type, w.url FROM events e JOIN deliveries d ON d.event_id = e.id AND d.account_id = e.account_id
            JOIN webhook_endpoints w ON w.id = d.endpoint_id AND w.account_id = e.account_id
        WHERE e.batch_id = %s AND d.state = 'pending' ORDER BY e.id, w.url
    """
    return [(name, url) for name, url in database.execute(query, [batch_id])]


def listen(database: psycopg.Connection, of: Caller, *types: str, url: str = URL) -> UUID:
    """An endpoint of the account for these types of events."""
    endpoint_id = ids.new_id()
    database.execute(
        "INSERT INTO webhook_endpoints (id, account_id, url, event_types, secret) VALUES (%s, %s, %s, %s, 'sealed')",
        [endpoint_id, of.account_id, url, list(types)],
    )
    return endpoint_id


def single(of: Caller, *events: str, url: str = URL) -> UUID:
    """A job that is told of at a URL."""
    webhook = Webhook(url, list(events) or None)
    return jobs.submit(of, "/v1/completions", BODY, None, webhook=webhook).batch_id


def bulk(of: Caller, rows: int, *events: str) -> UUID:
    """A batch that is told of at a URL."""
    sent = [work.request(number) for number in range(rows)]
    return work.requests(of, sent, webhook=Webhook(URL, list(events) or None))


def tickets() -> int:
    return queue.waiting()[queue.DELIVERIES_QUEUE]


def run_all() -> None:
    for claim in work.all_claims():
        record(work.outcomes(claim))


def test_each_change_of_a_batch_s_state_is_an_event(database: psycopg.Connection) -> None:
    of = work.caller()
    batch_id = work.bulk(of, 4)
    shown_id = ids.show("batch_", batch_id)
    batch_pauses.pause(of.account_id, shown_id)
    batch_pauses.pause(of.account_id, shown_id)
    batch_pauses.resume(of.account_id, shown_id)
    (claim,) = work.take()
    record([work.outcome(claim, seq, "failed" if seq else "succeeded") for seq in range(4)])
    expected = ["batch.in_progress", "batch.paused", "batch.in_progress", "batch.completed"]
    assert told(database, batch_id) == expected
    batches.retry(of, shown_id)
    retrying.retry(batch_id)
    batches.cancel(of.account_id, shown_id)
    closing.close(batch_id)
    closing.close(batch_id)
    assert told(database, batch_id) == [*expected, "batch.in_progress", "batch.cancelled"]
    assert delivered(database, batch_id) == []


def test_batches_that_end_in_other_ways_say_so(database: psycopg.Connection) -> None:
    of = work.caller()
    refused = work.upload(of, b"text\na\n", prompt="{{no_such_column}}")
    ingest.read(refused)
    unread, late = work.upload(of, b"text\na\n"), work.bulk(of, 2)
    cancelled = work.upload(of, b"text\na\n")
    batches.cancel(of.account_id, ids.show("batch_", cancelled))
    database.execute("UPDATE batches SET expires_at = now() - interval '1 s' WHERE id = ANY(%s)", [[unread, late]])
    expiry.expire()
    closing.close(late)
    assert told(database, refused) == ["batch.failed"]
    assert told(database, cancelled) == ["batch.cancelled"]
    assert told(database, unread) == ["batch.expired"]
    assert told(database, late) == ["batch.in_progress", "batch.expired"]


def test_what_pauses_an_account_is_told_of_each_of_its_batches(database: psycopg.Connection) -> None:
    of = work.caller()
    made = [work.bulk(of, 2), work.bulk(of, 2)]
    accounts.suspend(COMMAND_LINE, of.account_id, "unpaid")
    accounts.resume(COMMAND_LINE, of.account_id)
    for batch_id in made:
        assert told(database, batch_id) == ["batch.in_progress", "batch.paused", "batch.in_progress"]


@pytest.mark.parametrize(("kind", "expected"), [("succeeded", "job.completed"), ("failed", "job.failed")])
def test_a_job_s_end_is_told_where_it_names_a_url(database: psycopg.Connection, kind: str, expected: str) -> None:
    of = work.caller()
    named, unheard = single(of), work.single(of)
    assert delivered(database, named) == []
    for claim in work.all_claims():
        record(work.outcomes(claim, kind))
    assert delivered(database, named) == [(expected, URL)]
    assert told(database, named) == [expected]
    # Of what nobody hears there are millions.
    assert told(database, unheard) == []


def test_a_job_that_never_ran_is_told_as_failed(database: psycopg.Connection) -> None:
    of = work.caller()
    cancelled, late = single(of), single(of)
    jobs.cancel(of.account_id, ids.show("job_", cancelled))
    database.execute("UPDATE batches SET expires_at = now() - interval '1 s' WHERE id = %s", [late])
    expiry.expire()
    for batch_id in (cancelled, late):
        assert delivered(database, batch_id) == [("job.failed", URL)]


def test_a_url_is_told_of_what_was_chosen_alone(database: psycopg.Connection) -> None:
    of = work.caller()
    job_id, batch_id, by_default = single(of, "job.failed"), bulk(of, 2, "batch.in_progress"), bulk(of, 2)
    run_all()
    assert (told(database, job_id), delivered(database, job_id)) == ([], [])
    assert delivered(database, batch_id) == [("batch.in_progress", URL)]
    assert delivered(database, by_default) == [("batch.completed", URL)]


def test_an_endpoint_is_told_of_its_types_of_its_account_alone(database: psycopg.Connection) -> None:
    of, other = work.caller(), work.caller()
    listen(database, of, "batch.completed", "job.completed", url="https://one.example.com/")
    listen(database, of, "batch.completed", "job.failed", url="https://two.example.com/")
    paused = listen(database, of, *EVENT_TYPES, url="https://three.example.com/")
    database.execute(
        "UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = 'requested', disabled_at = now()"
        " WHERE id = %s",
        [paused],
    )
    batch_id, job_id, of_other = bulk(of, 2), work.single(of), work.bulk(other, 2)
    run_all()
    both = [("batch.completed", url) for url in (URL, "https://one.example.com/", "https://two.example.com/")]
    assert delivered(database, batch_id) == both
    assert delivered(database, job_id) == [("job.completed", "https://one.example.com/")]
    assert delivered(database, of_other) == []


def test_what_a_job_asked_for_is_written_where_its_url_is_disabled_by_now(database: psycopg.Connection) -> None:
    job_id = single(work.caller())
    disable = "UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = 'gone', disabled_at = now()"
    database.execute(disable)
    run_all()
    assert (told(database, job_id), delivered(database, job_id)) == (["job.completed"], [])


def test_deliverers_are_told_after_the_commit_where_there_is_something_to_deliver(
    database: psycopg.Connection,
) -> None:
    of = work.caller()
    work.single(of)
    queue.redis().flushdb()
    run_all()
    assert tickets() == 0
    single(of)
    run_all()
    assert tickets() == 1
    batch_id = bulk(of, 2)
    queue.redis().flushdb()
    (claim,) = work.take(rows=2)
    record([work.outcome(claim, 0)])
    assert tickets() == 0
    record([work.outcome(claim, 1)])
    assert (tickets(), len(delivered(database, batch_id))) == (1, 1)


def test_there_is_no_outcome_without_its_event(database: psycopg.Connection) -> None:
    job_id = single(work.caller())
    claims = work.all_claims()
    database.execute("ALTER TABLE deliveries ADD CONSTRAINT none CHECK (false) NOT VALID")
    queue.redis().flushdb()
    with pytest.raises(SQLAlchemyError):
        record(work.outcomes(claims[0]))
    assert one(database, "SELECT state, ended_at FROM batches WHERE id = %s", job_id) == ("in_progress", None)
    assert one(database, "SELECT count(*) FROM results") == (0,)
    assert tickets() == 0
    database.execute("ALTER TABLE deliveries DROP CONSTRAINT none")
    for _ in range(2):
        record(work.outcomes(claims[0]))
    assert delivered(database, job_id) == [("job.completed", URL)]


def progress(database: psycopg.Connection, batch_id: UUID) -> list[Any]:
    query = """
        SELECT data FROM events JOIN deliveries d ON d.event_id = events.id
        WHERE batch_id = %s AND type = 'batch.progress' ORDER BY events.id
    """
    return [data["request_counts"] for (data,) in database.execute(query, [batch_id])]


@pytest.mark.parametrize("by_endpoint", [False, True])
def test_progress_is_told_with_each_tenth_of_the_rows(database: psycopg.Connection, by_endpoint: bool) -> None:
    of, other = work.caller(), work.caller()
    if by_endpoint:
        listen(database, of, "batch.progress")
        batch_id = work.bulk(of, 20)
    else:
        batch_id = bulk(of, 20, "batch.progress")
    unheard = work.bulk(other, 20)
    claims = work.all_claims(rows=20)
    of_batch = next(claim for claim in claims if claim.batch_id == batch_id)
    record(work.outcomes(next(claim for claim in claims if claim.batch_id == unheard))[:10])
    batch_progress.tell()
    record([work.outcome(of_batch, 0)])
    batch_progress.tell()
    assert progress(database, batch_id) == []
    queue.redis().flushdb()
    record([work.outcome(of_batch, 1, "failed")])
    sweep.run()
    assert tickets() == 1
    batch_progress.tell()
    assert progress(database, batch_id) == [{"total": 20, "completed": 1, "failed": 1}]
    record(work.outcomes(of_batch)[2:19])
    batch_progress.tell()
    assert progress(database, batch_id)[1:] == [{"total": 20, "completed": 18, "failed": 1}]
    record(work.outcomes(of_batch)[19:])
    batch_progress.tell()
    assert len(progress(database, batch_id)) == 2
    assert told(database, batch_id)[-1] == "batch.completed"
    assert told(database, unheard) == ["batch.in_progress"]


def test_progress_is_told_after_half_a_minute_where_any_row_has_ended(database: psycopg.Connection) -> None:
    batch_id = bulk(work.caller(), 30, "batch.progress")
    (claim,) = work.take()
    record([work.outcome(claim, 0)])
    batch_progress.tell()
    later = "UPDATE batches SET in_progress_at = in_progress_at - interval '30 s'"
    database.execute(later + ", progress_told_at = progress_told_at - interval '30 s'")
    for _ in range(2):
        batch_progress.tell()
    assert progress(database, batch_id) == [{"total": 30, "completed": 1, "failed": 0}]
    record([work.outcome(claim, 1)])
    batch_progress.tell()
    assert len(progress(database, batch_id)) == 1
    database.execute("UPDATE batches SET progress_told_at = progress_told_at - interval '30 s'")
    batch_progress.tell()
    assert len(progress(database, batch_id)) == 2


def test_a_retried_batch_is_told_of_from_where_it_is(database: psycopg.Connection) -> None:
    of = work.caller()
    batch_id = bulk(of, 10, "batch.progress", "batch.completed")
    (claim,) = work.take()
    record(work.outcomes(claim, "failed")[:9])
    batch_progress.tell()
    record(work.outcomes(claim)[9:])
    batches.retry(of, ids.show("batch_", batch_id))
    batch_progress.tell()
    retrying.retry(batch_id)
    batch_progress.tell()
    assert progress(database, batch_id) == [
        {"total": 10, "completed": 0, "failed": 9},
        {"total": 10, "completed": 1, "failed": 0},
    ]
    run_all()
    assert [name for name, _ in delivered(database, batch_id) if name != "batch.progress"] == ["batch.completed"] * 2
