"""What an operator sees of workers and does to them, and work that is put on again by hand."""

import logging
import socket
from collections.abc import Callable

import psycopg
import pytest
from click.testing import Result

from common import ids, invariants, queue, work_invariants, workers
from local.process import Process
from local.stack import Stack
from tests import work
from tests.databases import one
from tests.waiting import wait_for
from tests.web_client import WebClient
from tests.work import take
from worker import sums
from worker.outcomes import record

Flask = Callable[..., Result]


@pytest.fixture
def flask(web: WebClient) -> Flask:
    """The command line, in the test's own process."""

    def run(*arguments: str) -> Result:
        return web.app.test_cli_runner().invoke(args=arguments)

    return run


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def in_order() -> bool:
    with invariants.snapshot() as snapshot:
        found = [
            finding for page in invariants.batch_pages(snapshot) for finding in invariants.of_batches(snapshot, page)
        ]
        return found + work_invariants.quotas(snapshot) + work_invariants.claims(snapshot) == []


def test_workers_are_listed_with_what_they_hold(flask: Flask, database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 5)
    take(rows=3, worker="a")
    take(rows=2, worker="unknown")
    workers.beat("a", "here", 1)
    workers.beat("b", "there", 2)
    workers.beat("c", "there", 3)
    database.execute("UPDATE workers SET seen_at = now() - interval '1 minute' WHERE name = 'c'")
    assert not workers.beat("b", "there", 2)
    assert lines(flask("workers", "drain", "b")) == ["b drains"]
    assert workers.beat("b", "there", 2)
    a, b, c, unknown = (line.split() for line in lines(flask("workers", "list")))
    assert (a[:2], a[6:11]) == (["a", "alive"], ["1", "claims,", "3", "rows", "until"])
    assert (b[:2], b[6:]) == (["b", "draining"], ["nothing"])
    assert (c[:2], c[6:]) == (["c", "dead"], ["nothing"])
    assert unknown[:2] == ["unknown", "dead"]
    workers.leave("b")
    assert len(lines(flask("workers", "list"))) == 3


def test_only_who_lives_can_be_asked_to_drain_and_it_is_written_down(
    flask: Flask, database: psycopg.Connection
) -> None:
    workers.beat("a", "here", 1)
    assert "No living worker has the name" in flask("workers", "drain", "nobody").output
    assert flask("workers", "drain").exit_code == flask("workers", "drain", "a", "--all").exit_code == 2
    assert lines(flask("workers", "drain", "--all")) == ["a drains"]
    assert one(database, "SELECT actor, details ->> 'workers' FROM audit_log WHERE action = 'workers.drain'") == (
        "command line",
        '["a"]',
    )


def test_rows_are_given_back_at_once_and_their_worker_writes_nothing_more(
    flask: Flask, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(work.caller(), 6)
    (claim,) = take(rows=4)
    record([work.outcome(claim, 0)])
    queue.redis().flushdb()
    (said,) = lines(flask("requeue", ids.show("batch_", batch_id)))
    assert said == "3 rows of 1 claims given back; put on: a ticket of the plan pro"
    assert queue.waiting()["plan-pro"] == 1
    assert in_order()
    record(work.outcomes(claim))
    assert one(database, "SELECT succeeded, returned FROM batches") == (1, 3)
    assert one(database, "SELECT deaths FROM claims") == (0,)
    for again in work.all_claims():
        record(work.outcomes(again))
    assert one(database, "SELECT state, succeeded FROM batches") == ("completed", 6)
    assert in_order()
    assert "It has ended" in flask("requeue", ids.show("batch_", batch_id)).output
    assert one(database, "SELECT count(*) FROM audit_log WHERE action = 'batch.requeue'") == (1,)


def test_what_a_batch_waits_for_is_put_on(flask: Flask, database: psycopg.Connection) -> None:
    reading = work.upload(work.caller(), b"text\na\n")
    assert lines(flask("requeue", ids.show("batch_", reading)))[0].endswith("put on: the reading of its input")
    closing = work.bulk(work.caller(), 2)
    database.execute("UPDATE batches SET state = 'cancelling', cancelling_at = now() WHERE id = %s", [closing])
    assert lines(flask("requeue", ids.show("batch_", closing)))[0].endswith("put on: the ending of its rows")
    assert queue.batches_waiting("ingests") == {reading}
    assert queue.batches_waiting("tasks") == {closing}
    assert flask("requeue", "batch_" + "0" * 32).exit_code == flask("requeue", "nonsense").exit_code == 1


def test_a_drained_worker_ends_by_itself_stays_ended_and_is_listed_no_longer(
    stack: Stack, stack_database: psycopg.Connection
) -> None:
    worker: Process = stack.start_worker()

    def named() -> list[tuple[str]]:
        return stack_database.execute(
            "SELECT name FROM workers WHERE pid = %s AND host = %s", [worker.pid, socket.gethostname()]
        ).fetchall()

    try:
        ((name,),) = wait_for(named, bool)
        stack_database.execute("UPDATE workers SET drain_asked_at = now() WHERE name = %s", [name])
        assert worker.wait(30)
        assert worker.exit_status == 0
        stack.tend()
        stack.tend()
        assert worker.has_ended_as_asked
        assert not worker.running
        assert named() == []
    finally:
        worker.stop()
        del stack.processes[worker.name]


@pytest.mark.usefixtures("settings")
def test_a_counter_that_is_no_sum_is_told_in_the_log_and_not_rewritten(
    database: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    batch_id = work.bulk(work.caller(), 3, model="gpt-4o-mini")
    record(work.outcomes(take()[0]))
    database.execute("UPDATE batches SET cost = cost + 1")
    rotation = sums.Rotation()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            rotation.run()
    told = [entry.getMessage() for entry in caplog.records]
    assert any(f"counters: {ids.show('batch_', batch_id)}: cost is" in message for message in told), told
    assert any("quotas: acct_" in message for message in told), told
    assert not in_order()


@pytest.mark.usefixtures("settings")
def test_what_an_ended_batch_holds_is_let_go(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 3, model="gpt-4o-mini")
    record(work.outcomes(take()[0]))
    database.execute("UPDATE batches SET reserved_tokens = 10, reserved_cost = 20")
    database.execute("UPDATE quotas SET reserved = reserved + 10, cost_reserved = cost_reserved + 20")
    rotation = sums.Rotation()
    for _ in range(2):
        rotation.run()
    assert one(database, "SELECT reserved_tokens, reserved_cost FROM batches") == (0, 0)
    assert one(database, "SELECT reserved, cost_reserved FROM quotas") == (0, 0)
    assert in_order()
