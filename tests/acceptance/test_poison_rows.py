"""A row that ends the process that runs it, with real workers that really die."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common import invariants, work_invariants
from local.process import ROOT
from local.stack import Stack
from tests.customer import Customer, batch_uuid
from tests.databases import one
from tests.dead_workers import end_their_leases
from tests.process_settings import process_settings
from tests.stacks import own_stack
from tests.waiting import wait_for
from worker import suspects

POISONED = 123
ROWS = 201
LONGEST_SECONDS = 60
MOST_DEATHS = 2 * suspects.MAX_DEATHS


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with own_stack(services, tmp_path_factory.mktemp("stack"), workers=0, WORKER_CONCURRENCY=512) as stack:
        yield stack


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


def start(stack: Stack, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crashing_worker"],
            cwd=ROOT,
            env={**os.environ, **stack.env},
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def run_until_it_dies_or_all_is_done(
    stack: Stack, log: Path, customer: Customer, batch_id: str
) -> tuple[dict[str, Any], int | None]:
    """The batch as it then is, and how the worker died, if it did."""
    worker = start(stack, log)
    try:
        return wait_for(
            lambda: (customer.batch(batch_id), worker.poll()),
            lambda found: found[0]["status"] == "completed" or found[1] is not None,
            LONGEST_SECONDS,
        )
    finally:
        worker.kill()
        worker.wait()


def test_a_row_that_ends_its_workers_fails_alone_and_named_so(stack: Stack, log: Path) -> None:
    content = "name\n" + "".join(f"{'poison' if row == POISONED else 'good'} {row}\n" for row in range(ROWS))
    deaths = 0
    with (
        process_settings(stack.env),
        psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as database,
        Customer(stack.base_url, stack.env["API_KEY"]) as customer,
    ):
        batch = customer.create_batch(content.encode(), model="gpt-4o-mini", prompt="Greet {{name}}.")
        while True:
            shown, status = run_until_it_dies_or_all_is_done(stack, log, customer, batch["id"])
            if status is None:
                break
            assert status == -signal.SIGKILL
            deaths += 1
            assert deaths <= MOST_DEATHS
            end_their_leases(stack)

        assert deaths >= suspects.MAX_DEATHS
        assert (shown["counts"]["succeeded"], shown["counts"]["failed"]) == (ROWS - 1, 1)
        failed = one(
            database,
            "SELECT seq, error_code, attempts, error_message LIKE '%% died%%' FROM results"
            " WHERE batch_id = %s AND outcome = 'failed'",
            batch_uuid(batch),
        )
        assert failed == (POISONED, "worker_crashed", suspects.MAX_DEATHS, True)
        with invariants.snapshot() as snapshot:
            assert invariants.of_batches(snapshot, [batch_uuid(batch)]) == []
            assert invariants.file_sizes(snapshot, [batch_uuid(batch)]) == []
            assert work_invariants.quotas(snapshot) == work_invariants.claims(snapshot) == []
