"""Kill -9 while an input is read: just begun, in the middle of the copy, and when only the commit is missing."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import psycopg
import pytest

from local.process import Process
from local.stack import Stack
from tests.customer import Customer, batch_uuid
from tests.databases import one
from tests.stacks import own_stack
from tests.waiting import wait_for

ROWS = 100_000
# No answer comes while the test looks.
MODEL = "sim-latency-600s"
# Longer than it takes to notice a forgotten batch, and to read it again on a busy machine.
LONGEST_SECONDS = 90
SAMPLED = (0, 1, 2, 4_095, 4_096, 49_999, 65_535, 65_536, ROWS - 2, ROWS - 1)

Victim = Callable[[Process], None]


def body(number: int) -> dict[str, Any]:
    prompt = f"Row {number} of a batch whose input is read more than once. " * 6
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 60}


def custom_id(number: int) -> str:
    return f"request-{number:06}"


def input_file() -> bytes:
    endpoint = {"method": "POST", "url": "/v1/chat/completions"}
    lines = ({"custom_id": custom_id(number), **endpoint, "body": body(number)} for number in range(ROWS))
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with own_stack(services, tmp_path_factory.mktemp("stack"), workers=0) as stack:
        yield stack


@pytest.fixture(scope="module")
def customer(stack: Stack) -> Iterator[Customer]:
    """On the team plan, which takes so many rows."""
    with Customer(stack.base_url, stack.env["TEAM_API_KEY"]) as customer:
        yield customer


@pytest.fixture(scope="module")
def file_id(customer: Customer) -> str:
    """The file of every batch here."""
    return customer.file_id(input_file())


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def workers(stack: Stack) -> Iterator[None]:
    """The workers that a test starts end with it, as a crash would end them: their calls take ten minutes."""
    yield
    for name, process in list(stack.processes.items()):
        if name.startswith("worker-"):
            process.send(signal.SIGKILL)
            assert process.wait(10)
            process.stop()
            del stack.processes[name]


def ingest_child(worker: Process) -> psutil.Process | None:
    """The process that reads an input: a child of the server that the worker forks from."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for server in psutil.Process(worker.pid).children():
            for child in server.children():
                return child
    return None


def started_child(worker: Process) -> psutil.Process:
    found = wait_for(lambda: ingest_child(worker), lambda child: child is not None)
    assert found is not None
    return found


def kill_child(worker: Process) -> None:
    started_child(worker).kill()


def kill_group(worker: Process) -> None:
    os.killpg(worker.pid, signal.SIGKILL)
    assert worker.wait(10)


VICTIMS: dict[str, Victim] = {"the ingest child": kill_child, "the worker with all its children": kill_group}
each_victim = pytest.mark.parametrize("kill", VICTIMS.values(), ids=list(VICTIMS))


def assert_read_again(
    stack: Stack, worker: Process, customer: Customer, database: psycopg.Connection, batch: dict[str, Any]
) -> None:
    """Every row is there once, and once only. A worker that lost no more than a child makes good for it by itself."""
    if not worker.running:
        stack.start_worker()
    found = wait_for(
        lambda: customer.batch(batch["id"]), lambda found: found["status"] != "validating", LONGEST_SECONDS
    )
    assert found["status"] == "in_progress"
    assert found["request_counts"] == {"total": ROWS, "completed": 0, "failed": 0}
    counted = one(
        database,
        "SELECT count(*), count(DISTINCT seq), min(seq), max(seq), count(DISTINCT custom_id) FROM jobs"
        " WHERE batch_id = %s",
        batch_uuid(batch),
    )
    assert counted == (ROWS, ROWS, 0, ROWS - 1, ROWS)
    for number in SAMPLED:
        row = one(
            database, "SELECT custom_id, body FROM jobs WHERE batch_id = %s AND seq = %s", batch_uuid(batch), number
        )
        assert row[0] == custom_id(number)
        assert isinstance(row[1], bytes)
        assert json.loads(row[1]) == body(number)
    assert one(database, "SELECT count(*) FROM results WHERE batch_id = %s", batch_uuid(batch)) == (0,)
    # Each attempt makes the two files that show results: those of the dead are gone with it.
    assert one(database, "SELECT count(*) FROM files WHERE batch_id = %s", batch_uuid(batch)) == (2,)


def assert_nothing_is_visible(customer: Customer, database: psycopg.Connection, batch: dict[str, Any]) -> None:
    assert customer.batch(batch["id"])["status"] == "validating"
    assert database.execute("SELECT 1 FROM jobs WHERE batch_id = %s LIMIT 1", [batch_uuid(batch)]).fetchall() == []


@each_victim
@pytest.mark.usefixtures("workers")
def test_killed_as_it_begins_the_input_is_read_again_from_the_start(
    stack: Stack, customer: Customer, database: psycopg.Connection, file_id: str, kill: Victim
) -> None:
    batch = customer.run_file(file_id)
    worker = stack.start_worker()
    started_child(worker)
    kill(worker)
    assert_nothing_is_visible(customer, database, batch)
    assert_read_again(stack, worker, customer, database, batch)


@each_victim
@pytest.mark.usefixtures("workers")
def test_killed_in_the_middle_of_the_copy_none_of_it_stays_and_the_input_is_read_again(
    stack: Stack, customer: Customer, database: psycopg.Connection, file_id: str, kill: Victim
) -> None:
    batch = customer.run_file(file_id)
    worker = stack.start_worker()
    wait_for(lambda: rows_copied(database), lambda rows: rows > ROWS // 100)
    # Stopped, the child cannot end its copy between our look and the kill.
    child = started_child(worker)
    child.suspend()
    assert 0 < rows_copied(database) < ROWS, "the copy was over already: the test shows nothing"
    kill(worker)
    wait_for(lambda: rows_copied(database), lambda rows: rows == 0)
    assert_nothing_is_visible(customer, database, batch)
    assert_read_again(stack, worker, customer, database, batch)


def rows_copied(database: psycopg.Connection) -> int:
    """By the copy that runs now; 0 without one."""
    (rows,) = one(database, "SELECT coalesce(max(tuples_processed), 0)::int FROM pg_stat_progress_copy")
    assert isinstance(rows, int)
    return rows


@each_victim
@pytest.mark.usefixtures("workers")
def test_killed_with_every_row_copied_and_none_committed_the_input_is_read_again(
    stack: Stack, customer: Customer, database: psycopg.Connection, file_id: str, kill: Victim
) -> None:
    batch = customer.run_file(file_id)
    with psycopg.connect(stack.env["DATABASE_URL"]) as holder:
        # Others may refer to the batch, as its files do, but not move it on.
        holder.execute("SELECT 1 FROM batches WHERE id = %s FOR NO KEY UPDATE", [batch_uuid(batch)])
        worker = stack.start_worker()
        (statement,) = wait_for(lambda: waiting_for(database, holder), lambda found: len(found) == 1)
        assert "UPDATE batches SET state" in statement
        kill(worker)
        assert_nothing_is_visible(customer, database, batch)
    assert_read_again(stack, worker, customer, database, batch)


def waiting_for(database: psycopg.Connection, holder: psycopg.Connection) -> list[str]:
    """The statements that wait for a lock of this connection."""
    rows = database.execute(
        "SELECT query FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))", [holder.info.backend_pid]
    )
    return [str(query) for (query,) in rows]
