"""`flask --app wsgi doctor`: whatever is off is named, and nothing else."""

from collections.abc import Callable
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest
from click.testing import Result

from common import batches, ids, queue, workers
from common.batch_input import INGEST_LOCK
from tests import work
from tests.databases import one
from tests.web_client import WebClient
from tests.work import PRICE, take
from worker import closing, leases, retrying
from worker.outcomes import record

MODEL = "gpt-4o-mini"
Doctor = Callable[..., Result]


@pytest.fixture
def doctor(web: WebClient) -> Doctor:
    def run(*arguments: str) -> Result:
        return web.app.test_cli_runner().invoke(args=["doctor", *arguments])

    return run


def lines(result: Result, exit_code: int) -> list[str]:
    """What it found; the last line says what it looked at."""
    assert result.exit_code == exit_code, result.output
    *found, last = result.output.splitlines()
    assert last.startswith("checked "), result.output
    return found


@pytest.fixture
def lived(database: psycopg.Connection) -> UUID:
    """A batch of which some rows succeeded, some failed, some run, some came back and some were never claimed."""
    of = work.caller()
    ended = work.bulk(of, 4, model=MODEL)
    (claim,) = take(rows=4)
    record([work.outcome(claim, seq, kind) for seq, kind in enumerate(("succeeded", "failed", "succeeded", "failed"))])
    batches.cancel(of.account_id, ids.show("batch_", cancelled := work.bulk(of, 3, model=MODEL)))
    closing.close(cancelled)
    work.single(of)
    record(work.outcomes(take(rows=1)[0]))
    work.single(of)
    batch_id = work.bulk(of, 12, model=MODEL, max_cost=10**12)
    claims = [claim for _ in range(3) for claim in take(rows=4) if not claim.single]
    record([work.outcome(claims[0], claims[0].jobs[0].seq)])
    leases.give_back([claims[1].key])
    assert one(database, "SELECT count(*) FROM batches WHERE ended_at IS NULL") == (2,)
    workers.beat("worker A", "here", 1)
    assert ended != batch_id
    return batch_id


def test_a_database_in_the_middle_of_its_work_is_in_order(doctor: Doctor, lived: UUID) -> None:
    assert lines(doctor(), 0) == []
    assert lines(doctor("--files", "--batch", ids.show("batch_", lived)), 0) == []


def test_a_retry_that_waits_and_one_that_runs_are_in_order(doctor: Doctor, database: psycopg.Connection) -> None:
    of = work.caller()
    batch_id = work.bulk(of, 4, model=MODEL)
    (claim,) = take(rows=4)
    record([work.outcome(claim, seq, kind) for seq, kind in enumerate(("succeeded", "failed", "succeeded", "failed"))])
    workers.beat("worker A", "here", 1)
    batches.retry(of, ids.show("batch_", batch_id))
    assert lines(doctor(), 0) == []
    retrying.retry(batch_id)
    assert lines(doctor(), 0) == []
    (again,) = take()
    record(work.outcomes(again))
    assert one(database, "SELECT state FROM batches") == ("completed",)
    assert lines(doctor("--files"), 0) == []


def test_a_batch_that_is_retried_in_a_later_period_is_in_order(doctor: Doctor, database: psycopg.Connection) -> None:
    of = work.caller()
    batch_id = work.bulk(of, 2, model=MODEL)
    (claim,) = take()
    record([work.outcome(claim, 0), work.outcome(claim, 1, "failed")])
    # Another period begins.
    database.execute("UPDATE accounts SET billing_anchor = now() - interval '1 millisecond'")
    batches.retry(work.caller_of(of.account_id), ids.show("batch_", batch_id))
    retrying.retry(batch_id)
    record(work.outcomes(take()[0]))
    assert one(database, "SELECT count(*) FROM quotas") == (2,)
    assert lines(doctor(), 0) == []
    database.execute("UPDATE quotas SET used = used + 1 WHERE period_start = (SELECT min(period_start) FROM quotas)")
    (found,) = lines(doctor(), 1)
    assert found.startswith(f"quotas: {ids.show('acct_', of.account_id)} in all periods: used is ")


BROKEN: list[tuple[str, LiteralString, str]] = [
    ("a lost result", "DELETE FROM results WHERE outcome = 'failed' AND seq = 1", "results: batch_"),
    ("a lost job", "DELETE FROM jobs WHERE seq = 11", "results: batch_"),
    (
        "a result of no row",
        "INSERT INTO results (batch_id, seq, account_id, outcome, error_code, attempts, finished_at)"
        " SELECT id, total, account_id, 'failed', 'x', 1, now() FROM batches WHERE total = 12",
        "1 results are of rows that it does not have",
    ),
    ("a counter", "UPDATE batches SET failed = 1, succeeded = 3 WHERE failed = 2", "failed is 1; 2 results are so"),
    ("a sum", "UPDATE batches SET prompt_tokens = prompt_tokens + 1 WHERE total = 12", "counters: batch_"),
    ("a lost receipt", "DELETE FROM usage_records WHERE seq = 2", "1 succeeded rows have no usage record"),
    (
        "a receipt too many",
        "INSERT INTO usage_records (batch_id, seq, account_id, api_key_id, model, provider, prompt_tokens,"
        " cached_tokens, completion_tokens, created_at) SELECT id, 11, account_id, api_key_id, 'm', 'p', 0, 0, 0, now()"
        " FROM batches WHERE total = 12",
        "1 usage records are of no billable result",
    ),
    ("a cheaper receipt", "UPDATE usage_records SET cost = cost - 1 WHERE seq = 2", "counters: batch_"),
    ("a hold", "UPDATE batches SET reserved_tokens = reserved_tokens + 1 WHERE total = 12", "reservations: batch_"),
    ("a hold of an ended batch", "UPDATE batches SET reserved_cost = 5 WHERE failed = 2", "reservations: batch_"),
    ("a quota's use", "UPDATE quotas SET used = used + 1", "quotas: acct_"),
    ("a quota's hold", "UPDATE quotas SET cost_reserved = cost_reserved - 1", "cost_reserved is "),
    ("a lost quota", "DELETE FROM quotas", "quotas: acct_"),
    ("returned rows", "UPDATE batches SET returned = returned + 1 WHERE returned > 0", "claims: batch_"),
    ("a claim's rows", "UPDATE claims SET pending = pending - 1 WHERE state = 'leased'", "pending is "),
    ("a lost claim", "DELETE FROM claims WHERE state = 'leased'", "are not its 12 rows"),
    (
        "a claim of an ended batch",
        "INSERT INTO claims (id, batch_id, account_id, first_seq, end_seq, pending, state, worker, lease_until)"
        " SELECT uuidv7(), id, account_id, 0, 1, 0, 'leased', 'w', now() FROM batches WHERE failed = 2",
        "the batch is completed",
    ),
    (
        "two claims of a row",
        "INSERT INTO claims (id, batch_id, account_id, first_seq, end_seq, pending, state, worker, lease_until)"
        " SELECT uuidv7(), batch_id, account_id, first_seq, end_seq, pending, state, worker, lease_until FROM claims",
        "another claim has rows of its range",
    ),
    (
        "a lease that nobody keeps",
        "UPDATE claims SET lease_until = now() - interval '5 minutes' WHERE state = 'leased'",
        "its lease ended 300 s ago",
    ),
    ("a lease for ever", "UPDATE claims SET lease_until = now() + interval '1 hour'", "its lease ends only in "),
    (
        "another's result",
        "UPDATE results SET account_id = uuidv7() WHERE seq = 2",
        "1 of its rows are another account's",
    ),
    (
        "rows of no batch",
        "INSERT INTO jobs (batch_id, seq, account_id, custom_id, body) SELECT uuidv7(), 0, id, 'a', 'a' FROM accounts"
        " LIMIT 1",
        "1 jobs of a batch that there is not",
    ),
    (
        "a batch that does not end",
        "UPDATE batches SET state = 'in_progress', ended_at = NULL WHERE failed = 2",
        "is in_progress and every row has its result",
    ),
]


@pytest.mark.usefixtures("lived")
@pytest.mark.parametrize(("what", "breaks", "named"), BROKEN, ids=[what for what, _, _ in BROKEN])
def test_whatever_is_off_is_named(
    doctor: Doctor, database: psycopg.Connection, what: str, breaks: LiteralString, named: str
) -> None:
    assert database.execute(breaks).rowcount > 0
    found = lines(doctor(), 1)
    assert any(named in line for line in found), found


def test_the_size_of_a_file_is_looked_at_where_it_is_asked_for(
    doctor: Doctor, database: psycopg.Connection, lived: UUID
) -> None:
    database.execute("UPDATE batches SET output_bytes = output_bytes + 1 WHERE id = %s", [lived])
    assert lines(doctor(), 0) == []
    (found,) = lines(doctor("--files"), 1)
    assert found.startswith(f"files: {ids.show('batch_', lived)}: output_bytes is ")


@pytest.mark.usefixtures("lived")
def test_work_without_a_ticket_is_off_where_no_worker_lives_that_would_notice(
    doctor: Doctor, database: psycopg.Connection
) -> None:
    queue.redis().flushdb()
    assert lines(doctor(), 0) == []
    database.execute("UPDATE workers SET seen_at = now() - interval '1 minute'")
    (found,) = lines(doctor(), 1)
    assert found.startswith("tickets: plan pro: ")
    queue.announce_work("pro")
    assert lines(doctor(), 0) == []


def test_an_input_is_stuck_that_nobody_reads_or_will_read(
    doctor: Doctor, settings: dict[str, str], database: psycopg.Connection
) -> None:
    batch_id = work.upload(work.caller(), b"text\na\n")
    assert lines(doctor(), 0) == []
    database.execute("UPDATE batches SET created_at = now() - interval '2 minutes'")
    (found,) = lines(doctor(), 1)
    assert found.startswith(f"ingests: {ids.show('batch_', batch_id)}: ")
    with psycopg.connect(settings["DATABASE_URL"]) as reader:
        reader.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [INGEST_LOCK, str(batch_id)])
        assert lines(doctor(), 0) == []
    queue.enqueue_ingest(batch_id)
    assert lines(doctor(), 0) == []


def test_a_stopped_batch_is_stuck_whose_rows_nobody_ends(doctor: Doctor, database: psycopg.Connection) -> None:
    batch_id = work.bulk(work.caller(), 3)
    database.execute("UPDATE batches SET state = 'cancelling', cancelling_at = now() - interval '2 minutes'")
    (found,) = lines(doctor(), 1)
    assert found.startswith(f"closing: {ids.show('batch_', batch_id)}: ")
    queue.enqueue_close(batch_id)
    assert lines(doctor(), 0) == []


def test_one_batch_can_be_looked_at_alone(doctor: Doctor, database: psycopg.Connection, lived: UUID) -> None:
    database.execute("UPDATE batches SET failed = 1, succeeded = 3 WHERE failed = 2")
    assert lines(doctor("--batch", ids.show("batch_", lived)), 0) == []
    (other,) = one(database, "SELECT id FROM batches WHERE failed = 1 AND succeeded = 3")
    assert isinstance(other, UUID)
    assert len(lines(doctor("--batch", ids.show("batch_", other), "--batch", ids.show("batch_", lived)), 1)) == 2
    assert doctor("--batch", "nonsense").exit_code == 2


def test_results_whose_time_is_over_are_not_missed_and_their_receipts_are(
    doctor: Doctor, database: psycopg.Connection
) -> None:
    work.bulk(work.caller(), 3, model=MODEL)
    record(work.outcomes(take()[0]))
    database.execute("UPDATE batches SET results_expire_at = now()")
    database.execute("DELETE FROM results WHERE seq < 2")
    assert lines(doctor(), 0) == []
    database.execute("UPDATE usage_records SET cost = cost + %s WHERE seq = 1", [PRICE.prompt])
    (found,) = lines(doctor(), 1)
    assert "cost is " in found
