"""Workers that are killed, drained or hurried, as real processes with real signals."""

import hashlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis

from local.process import Process
from local.stack import Stack
from tests.databases import one
from tests.dead_workers import end_their_leases
from tests.stacks import own_stack
from tests.waiting import wait_for
from tests.watcher import LONGEST_SECONDS, ROWS, Watcher, completed, kill, part_done

# No multiple of the rows of a claim, which are half of it: of some claim a part is being called, at any time.
CONCURRENCY = 33


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with own_stack(services, tmp_path_factory.mktemp("stack"), workers=0, WORKER_CONCURRENCY=CONCURRENCY) as stack:
        yield stack


@pytest.fixture
def worker(stack: Stack) -> Iterator[Process]:
    """A worker of the test's own; those that the test starts end with it."""
    yield stack.start_worker()
    for name, process in list(stack.processes.items()):
        if name.startswith("worker-"):
            process.stop()
            del stack.processes[name]


@pytest.fixture
def customer(stack: Stack) -> Iterator[Watcher]:
    with Watcher(stack) as customer:
        customer.reset_provider()
        yield customer


@contextmanager
def connection_lost_by_giving_back(stack: Stack) -> Iterator[Callable[[], int]]:
    """Within it PostgreSQL ends the connection of whoever gives back a claim, as if it were restarted; gives how often
    it has."""
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        # A sequence goes on counting in transactions that are rolled back.
        connection.execute("CREATE SEQUENCE times_lost MINVALUE 0")
        connection.execute(
            "CREATE FUNCTION lose_connection() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM nextval('times_lost'), pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER lost BEFORE UPDATE ON claims FOR EACH ROW WHEN (NEW.state = 'returned')"
            " EXECUTE FUNCTION lose_connection()"
        )

        def times_lost() -> int:
            found = one(connection, "SELECT last_value + is_called::int FROM times_lost")[0]
            assert isinstance(found, int)
            return found

        try:
            yield times_lost
        finally:
            connection.execute("DROP FUNCTION lose_connection CASCADE")
            connection.execute("DROP SEQUENCE times_lost")


def test_a_killed_workers_batch_completes_and_only_rows_in_flight_are_called_again(
    stack: Stack, worker: Process, customer: Watcher
) -> None:
    batch_id = customer.begin()
    customer.wait_for(batch_id, part_done)
    kill(worker)
    unfinished = customer.query(
        "SELECT j.body FROM claims c"
        " JOIN jobs j ON j.batch_id = c.batch_id AND j.seq >= c.first_seq AND j.seq < c.end_seq"
        " WHERE c.batch_id = %(batch_id)s AND NOT EXISTS"
        " (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.seq = j.seq)",
        batch_id,
    )
    in_flight = {hashlib.sha256(body).hexdigest() for (body,) in unfinished}
    assert 0 < len(in_flight) < ROWS

    stack.start_worker()
    customer.wait_for(batch_id, completed)

    customer.assert_every_row_ended_once(batch_id)
    repeated = customer.repeated_calls()
    assert repeated, "the kill hit no call: the test shows nothing"
    assert set(repeated.values()) == {2}
    assert all(any(full.startswith(digest) for full in in_flight) for digest in repeated)
    # The calls in flight, and those that had just been answered and were not recorded yet.
    assert len(repeated) <= 2 * CONCURRENCY


def test_a_drained_worker_repeats_no_call(stack: Stack, worker: Process, customer: Watcher) -> None:
    batch_id = customer.begin()
    customer.wait_for(batch_id, part_done)
    worker.send(signal.SIGTERM)
    assert worker.wait(30)
    assert worker.exit_status == 0
    batch = customer.batch(batch_id)
    assert batch["counts"]["pending"] > 0, "nothing was left to give back: the test shows nothing"
    leased = customer.query("SELECT id FROM claims WHERE batch_id = %(batch_id)s AND state = 'leased'", batch_id)
    assert leased == []

    stack.start_worker()
    customer.wait_for(batch_id, completed)

    customer.assert_every_row_ended_once(batch_id)
    assert customer.repeated_calls() == {}


def test_a_lost_connection_while_paused_rows_go_back_costs_no_call(
    stack: Stack, worker: Process, customer: Watcher
) -> None:
    # So slow that the pause is heard before all that is claimed has been called.
    batch_id = customer.begin("sim-latency-1500ms")
    customer.wait_for(batch_id, lambda batch: batch["counts"]["succeeded"] > 0)
    with connection_lost_by_giving_back(stack) as times_lost:
        customer.query(
            "UPDATE batches SET state = 'paused', paused_reason = 'spend_cap', paused_at = now()"
            " WHERE id = %(batch_id)s RETURNING id",
            batch_id,
        )
        wait_for(times_lost, lambda found: found > 0, LONGEST_SECONDS)
        # Longer than the calls in flight, which are recorded meanwhile, and whose claims go back then.
        assert not worker.wait(3), "the worker died of it"
    assert customer.batch(batch_id)["counts"]["pending"] > 0, "nothing was left to give back: the test shows nothing"

    # What could not be given back comes back when its lease ends.
    customer.query(
        "WITH ended AS (UPDATE claims SET lease_until = now() WHERE batch_id = %(batch_id)s AND state = 'leased')"
        " UPDATE batches SET state = 'in_progress', paused_reason = NULL WHERE id = %(batch_id)s RETURNING id",
        batch_id,
    )
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)
    assert customer.repeated_calls() == {}


def test_a_second_signal_gives_the_jobs_back_at_once(stack: Stack, worker: Process, customer: Watcher) -> None:
    batch_id = customer.begin()
    customer.wait_for(batch_id, part_done)
    customer.set_provider({"faults": [{"fault": "hang"}]})
    customer.wait_for_hanging_calls(CONCURRENCY)
    worker.send(signal.SIGTERM)
    assert not worker.wait(2), "calls hang, so the drain cannot have ended"
    worker.send(signal.SIGTERM)
    assert worker.wait(10)
    assert worker.exit_status == 0
    leased = customer.query("SELECT id FROM claims WHERE batch_id = %(batch_id)s AND state = 'leased'", batch_id)
    assert leased == []

    customer.set_provider({})
    stack.start_worker()
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)


def test_a_batch_submitted_while_no_worker_lives_is_ingested_by_the_next(
    stack: Stack, worker: Process, customer: Watcher
) -> None:
    kill(worker)
    batch_id = customer.begin()
    assert customer.batch(batch_id)["status"] == "validating"
    # The ticket goes down with Redis: only the sweep knows.
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        connection.flushdb()

    stack.start_worker()
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)


def half_failed(worker: Process, customer: Watcher) -> dict[str, Any]:
    """A completed batch of which about half the rows failed, and whose worker is dead."""
    customer.set_provider({"faults": [{"fault": "400", "probability": 0.5}]})
    batch = customer.wait_for(customer.begin(), completed)
    assert batch["counts"]["failed"] > CONCURRENCY
    kill(worker)
    customer.reset_provider()
    return batch


def test_a_retry_survives_the_death_of_every_worker_before_it_begins_and_in_the_middle(
    stack: Stack, worker: Process, customer: Watcher
) -> None:
    before = half_failed(worker, customer)
    batch_id, failed = before["id"], before["counts"]["failed"]
    assert customer.act(batch_id, "retry")["status"] == "in_progress"
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
        connection.flushdb()

    second = stack.start_worker()
    customer.wait_for(batch_id, lambda batch: batch["counts"]["failed"] == 0 and batch["counts"]["pending"] < failed)
    kill(second)
    end_their_leases(stack)
    assert customer.batch(batch_id)["counts"]["pending"] > 0, "nothing was left to do: the test shows nothing"

    stack.start_worker()
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)


def test_a_retry_that_is_cancelled_while_no_worker_lives_ends_once_one_does(
    stack: Stack, worker: Process, customer: Watcher
) -> None:
    before = half_failed(worker, customer)
    batch_id = before["id"]
    customer.act(batch_id, "retry")
    assert customer.act(batch_id, "cancel")["status"] == "cancelling"

    stack.start_worker()
    after = customer.wait_for(batch_id, lambda batch: batch["status"] == "cancelled")
    assert after["counts"] == before["counts"]
    customer.act(batch_id, "retry")
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)


def test_a_batch_whose_time_is_over_delivers_what_finished_though_its_worker_died(
    stack: Stack, worker: Process, customer: Watcher
) -> None:
    # Slow enough that a busy machine looks at it before all of it is done.
    batch_id = customer.begin("sim-latency-2s")
    customer.wait_for(batch_id, part_done)
    customer.query("UPDATE batches SET expires_at = now() WHERE id = %(batch_id)s RETURNING id", batch_id)
    kill(worker)
    end_their_leases(stack)
    stack.start_worker()
    counts = customer.wait_for(batch_id, lambda batch: batch["status"] == "expired")["counts"]
    assert counts["succeeded"] + counts["expired"] == ROWS
    assert counts["succeeded"] >= ROWS // 5

    customer.act(batch_id, "retry")
    customer.wait_for(batch_id, completed)
    customer.assert_every_row_ended_once(batch_id)
