"""Workers that are killed while they record: an end is told if it is there, once, and never without."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local.stack import Stack
from tests.conftest import redis_database
from tests.customer import batch_uuid
from tests.databases import cloned, one
from tests.waiting import wait_for
from tests.watcher import LONGEST_SECONDS, Watcher, kill

URL = "https://hooks.example.com/"
JOBS, BATCHES, ROWS, KILLS = 60, 6, 40, 5
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ENDED = "SELECT count(*) FROM results"
TOLD = "SELECT (SELECT count(*) FROM events WHERE type ~ '^(job|batch).completed'), (SELECT count(*) FROM deliveries)"


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Batchyard for these tests alone, whose workers they start and kill."""
    with (
        cloned(services) as urls,
        Stack(
            Path(tmp_path_factory.mktemp("stack")) / "home",
            extra_env=urls | {"REDIS_URL": redis_database(services, 5), "WORKER_CONCURRENCY": "16"},
            workers=0,
            with_stripe=False,
            durable=False,
            keep=False,
        ) as running,
    ):
        yield running


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def customer(stack: Stack) -> Iterator[Watcher]:
    with Watcher(stack) as customer:
        yield customer


def until_more_ended(database: psycopg.Connection) -> None:
    ended = one(database, ENDED)
    wait_for(lambda: one(database, ENDED), lambda found: found != ended, LONGEST_SECONDS)


def test_a_worker_killed_before_its_commit_leaves_neither_an_outcome_nor_its_event(
    stack: Stack, database: psycopg.Connection, customer: Watcher
) -> None:
    worker = stack.start_worker()
    with psycopg.connect(stack.env["DATABASE_URL"]) as holder:
        job = customer.submit({"model": "sim-latency-2s", "prompt": "Hi", "webhook_url": URL})
        # By now the job is stored, and its end, which comes later, waits for this as the last thing before its commit.
        holder.execute("SELECT 1 FROM quotas FOR UPDATE")
        wait_for(lambda: one(database, WAITING), lambda found: found == (1,))
        kill(worker)
        assert one(database, ENDED) == (0,)
    wait_for(lambda: one(database, WAITING), lambda found: found == (0,))
    assert one(database, TOLD) == (0, 0)
    worker = stack.start_worker()
    customer.ended_job(job["id"], LONGEST_SECONDS)
    assert one(database, TOLD) == (1, 1)
    kill(worker)


def test_workers_killed_at_any_time_leave_one_event_and_one_delivery_for_each_end(
    stack: Stack, database: psycopg.Connection, customer: Watcher
) -> None:
    before = one(database, TOLD)
    worker = stack.start_worker()
    content = b"name\n" + b"".join(b"row %d\n" % number for number in range(ROWS))
    fields = {"model": "sim-latency-500ms", "prompt": "Greet {{name}}.", "webhook_url": URL}
    made = [customer.create_batch(content, **fields) for _ in range(BATCHES)]
    jobs = [customer.submit({"model": "sim-latency-500ms", "prompt": "Hi", "webhook_url": URL}) for _ in range(JOBS)]
    for _ in range(KILLS):
        until_more_ended(database)
        kill(worker)
        worker = stack.start_worker()
    ids = [batch_uuid(batch) for batch in made] + [
        batch_uuid({"id": job["id"].replace("job", "batch")}) for job in jobs
    ]
    open_ones = "SELECT count(*) FROM batches WHERE id = ANY(%s) AND ended_at IS NULL"
    wait_for(lambda: one(database, open_ones, ids), lambda found: found == (0,), 3 * LONGEST_SECONDS)
    after = one(database, TOLD)
    # Columns of a row may be anything; these two are counts.
    assert [now - then for now, then in zip(after, before, strict=True)] == [JOBS + BATCHES] * 2  # type: ignore[operator]
    several = "SELECT count(*) FROM events GROUP BY batch_id, type HAVING count(*) > 1"
    assert database.execute(several).fetchall() == []
    kill(worker)
