"""The sweep: whatever a crash leaves behind is repaired, and what is in order is left alone."""

from typing import LiteralString

import psycopg
import pytest
import redis

from common import queue
from common.batch_input import INGEST_LOCK
from local.stack import Stack
from tests import work
from tests.conftest import NewCustomer
from tests.customer import batch_uuid
from tests.databases import one
from tests.sleeping import workers_asleep
from tests.work import take
from worker import claims, closing, ingest, sweep
from worker.outcomes import record


def waiting(name: str) -> list[tuple[str | None, list[str]]]:
    """What stands in a queue: the functions and their arguments."""
    return [(job.func_name, list(job.args)) for job in queue.queue(name).jobs]


def age(database: psycopg.Connection, column: LiteralString) -> None:
    """Makes what happened to all batches at that time a minute older."""
    database.execute(f"UPDATE batches SET {column} = {column} - interval '1 minute'")


@pytest.mark.usefixtures("settings")
def test_after_redis_was_emptied_every_plan_with_work_gets_a_ticket_and_no_other() -> None:
    work.single(work.caller("free"))
    work.bulk(work.caller("team"), 3)
    for plan in ("free", "team"):
        queue.announce_work(plan)
    queue.redis().flushdb()
    sweep.run()
    assert waiting("plan-free") == [("worker.tasks.serve", ["free"])]
    assert waiting("plan-team") == [("worker.tasks.serve", ["team"])]
    assert waiting("plan-pro") == []


@pytest.mark.usefixtures("settings")
def test_work_that_is_claimed_needs_no_ticket() -> None:
    work.bulk(work.caller(), 3)
    take()
    sweep.run()
    assert waiting("plan-pro") == []


def test_a_batch_that_nobody_reads_gets_its_task_again_and_is_read(database: psycopg.Connection) -> None:
    batch_id = work.upload(work.caller(), b"text\na\nb\n")
    sweep.run()
    assert waiting("ingests") == [], "a young batch's own task may still be on its way"
    age(database, "created_at")
    for _ in range(3):
        sweep.run()
    assert waiting("ingests") == [("worker.tasks.ingest", [batch_id.hex])]
    for _ in range(2):
        ingest.ingest(batch_id)
    assert one(database, "SELECT state, total FROM batches") == ("in_progress", 2)
    queue.redis().flushdb()
    sweep.run()
    assert waiting("ingests") == []


def lose_what_was_taken(name: str) -> None:
    """As a worker that takes a task and is killed; and as if that had been some seconds ago."""
    queue.redis().lpop(queue.queue(name).key)
    for key in queue.redis().keys("batchyard:asked:*"):
        queue.redis().delete(key)


def test_an_input_whose_task_was_lost_is_asked_for_again_behind_those_that_still_wait(
    database: psycopg.Connection,
) -> None:
    lost, second, third = (work.upload(work.caller(), b"text\na\n") for _ in range(3))
    for batch_id in (lost, second, third):
        queue.enqueue_ingest(batch_id)
    age(database, "created_at")
    sweep.run()
    lose_what_was_taken("ingests")
    for _ in range(2):
        sweep.run()
    assert waiting("ingests") == [("worker.tasks.ingest", [batch_id.hex]) for batch_id in (second, third, lost)]


def test_a_task_that_was_only_just_taken_is_not_asked_for_again(database: psycopg.Connection) -> None:
    queue.enqueue_ingest(work.upload(work.caller(), b"text\na\n"))
    age(database, "created_at")
    queue.redis().lpop(queue.queue("ingests").key)
    sweep.run()
    assert waiting("ingests") == []


def test_closing_and_retrying_that_were_lost_are_asked_for_again_behind_what_still_waits(
    database: psycopg.Connection,
) -> None:
    lost, waits = work.bulk(work.caller(), 2), work.bulk(work.caller(), 2)
    database.execute("UPDATE batches SET state = 'cancelling', cancelling_at = now() - interval '1 minute'")
    for batch_id in (lost, waits):
        queue.enqueue_close(batch_id)
    lose_what_was_taken("tasks")
    sweep.run()
    assert waiting("tasks") == [("worker.tasks.close", [waits.hex]), ("worker.tasks.close", [lost.hex])]

    queue.redis().flushdb()
    database.execute("UPDATE batches SET retrying = true, state = 'in_progress' WHERE id = %s", [lost])
    queue.enqueue_close(waits)
    sweep.run()
    assert waiting("tasks") == [("worker.tasks.close", [waits.hex]), ("worker.tasks.retry", [lost.hex])]


def test_a_batch_that_is_being_read_is_left_to_its_reader(
    settings: dict[str, str], database: psycopg.Connection
) -> None:
    batch_id = work.upload(work.caller(), b"text\na\n")
    age(database, "created_at")
    with psycopg.connect(settings["DATABASE_URL"]) as reader:
        reader.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [INGEST_LOCK, str(batch_id)])
        sweep.run()
        assert waiting("ingests") == []
    sweep.run()
    assert waiting("ingests") == [("worker.tasks.ingest", [batch_id.hex])]


def test_the_rows_of_a_lease_that_ended_are_pending_again(database: psycopg.Connection) -> None:
    batch_id = work.bulk(work.caller(), 6)
    (claim,) = take(rows=6)
    record([work.outcome(claim, seq) for seq in (0, 1)])
    sweep.run()
    assert one(database, "SELECT state FROM claims") == ("leased",)
    database.execute("UPDATE claims SET lease_until = now() - interval '1 second'")
    sweep.run()
    assert one(database, "SELECT state, fence FROM claims") == ("returned", claim.fence)
    assert one(database, "SELECT returned, state FROM batches") == (4, "in_progress")
    assert waiting("plan-pro") == [("worker.tasks.serve", ["pro"])]
    record(work.outcomes(claim))
    assert one(database, "SELECT succeeded FROM batches") == (2,), "the worker that was lost writes nothing"
    (again,) = take(worker="worker B")
    assert (again.batch_id, again.fence) == (batch_id, claim.fence + 1)
    assert [job.seq for job in again.jobs] == [2, 3, 4, 5]


def test_a_cancelled_batch_that_nobody_closes_gets_its_task_again_and_ends(database: psycopg.Connection) -> None:
    batch_id = work.bulk(work.caller(), 6)
    (claim,) = take(rows=2)
    database.execute("UPDATE batches SET state = 'cancelling', cancelling_at = now()")
    sweep.run()
    assert waiting("tasks") == []
    age(database, "cancelling_at")
    for _ in range(3):
        sweep.run()
    assert waiting("tasks") == [("worker.tasks.close", [batch_id.hex])]
    closing.close(batch_id)
    assert one(database, "SELECT state, cancelled FROM batches") == ("cancelling", 4)

    # Its worker dies with the two rows: they come back, and are closed like the others.
    queue.redis().flushdb()
    database.execute("UPDATE claims SET lease_until = now() - interval '1 second'")
    sweep.run()
    assert claims.take("pro", 64, "worker B") == ([], False, False)
    assert waiting("tasks") == [("worker.tasks.close", [batch_id.hex])]
    closing.close(batch_id)
    record(work.outcomes(claim))
    assert one(database, "SELECT state, cancelled, succeeded FROM batches") == ("cancelled", 6, 0)


def test_what_stops_or_runs_again_does_not_wait_behind_inputs_that_are_to_be_read(
    database: psycopg.Connection,
) -> None:
    batch_id, reading = work.bulk(work.caller(), 2), work.upload(work.caller(), b"text\na\n")
    queue.enqueue_ingest(reading)
    database.execute("UPDATE batches SET expires_at = now() - interval '1 second' WHERE id = %s", [batch_id])
    sweep.run()
    assert waiting("ingests") == [("worker.tasks.ingest", [reading.hex])]
    assert waiting("tasks") == [("worker.tasks.close", [batch_id.hex])]


def test_one_sweep_runs_at_a_time(settings: dict[str, str], database: psycopg.Connection) -> None:
    work.single(work.caller())
    queue.redis().flushdb()
    with psycopg.connect(settings["DATABASE_URL"]) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [sweep.SWEEP_LOCK])
        sweep.run()
        assert waiting("plan-pro") == []
    sweep.run()
    assert len(waiting("plan-pro")) == 1


def test_a_stack_whose_redis_is_emptied_loses_no_work(
    stack: Stack, new_customer: NewCustomer, stack_database: psycopg.Connection
) -> None:
    customer = new_customer("free")
    with workers_asleep(stack):
        job = customer.submit({"model": "sim", "prompt": "Hello"})
        batch = customer.create_batch(b"text\na\nb\n")
        with redis.Redis.from_url(stack.env["REDIS_URL"]) as connection:
            connection.flushdb()
        # As if the upload had been a while ago: the sweep leaves a young one to its own task.
        stack_database.execute(
            "UPDATE batches SET created_at = created_at - interval '1 minute' WHERE id = %s",
            [batch_uuid(batch)],
        )
    assert customer.ended_job(job["id"])["status"] == "completed"
    assert customer.ended_batch(batch["id"])["counts"]["succeeded"] == 2
