"""The doctor on a stack that works: it finds nothing off, and disturbs nobody."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.process import ROOT
from local.stack import Stack
from tests.customer import Customer
from tests.process_settings import process_settings
from tests.stacks import own_stack
from tests.waiting import wait_for
from tests.web_client import own_logging

ROWS = 3_000
JOBS = 20
LOOKS = 3
LONGEST_SECONDS = 90


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with own_stack(services, tmp_path_factory.mktemp("stack"), workers=2, WORKER_CONCURRENCY=64) as stack:
        yield stack


def doctor(stack: Stack) -> tuple[int, str]:
    """Its exit status and what it printed, in this process: to start one takes longer than a look."""
    with process_settings(stack.env), own_logging():
        # Imported here: the app reads its settings when it is loaded.
        from web.app import create_app

        run = create_app().test_cli_runner().invoke(args=["doctor"])
    return run.exit_code, run.stdout


def test_work_in_progress_is_always_in_order(stack: Stack) -> None:
    content = b"name\n" + b"".join(b"row %d\n" % number for number in range(ROWS))
    with Customer(stack.base_url, stack.env["API_KEY"]) as customer:
        jobs = [customer.submit({"model": "sim", "prompt": "Hi"}) for _ in range(JOBS)]
        batches: list[str] = []
        for _ in range(LOOKS):
            if not batches or customer.batch(batches[-1])["counts"]["succeeded"] > ROWS // 2:
                made = customer.create_batch(content, model="sim-latency-500ms", prompt="Greet {{name}}.")
                batches.append(made["id"])
            begun = wait_for(
                lambda: customer.batch(batches[-1]), lambda found: bool(found["counts"]["succeeded"]), LONGEST_SECONDS
            )
            assert begun["status"] == "in_progress", "the batch was done too soon: the look shows nothing"
            assert doctor(stack) == (0, checked(JOBS + len(batches)))
        for batch_id in batches:
            customer.ended_batch(batch_id, LONGEST_SECONDS)
        assert all(customer.ended_job(job["id"])["status"] == "completed" for job in jobs)
    assert doctor(stack) == (0, checked(JOBS + len(batches)))


def checked(batches: int) -> str:
    return (
        f"checked {batches} batches and single jobs: results, usage records, counters, reservations, claims, events;"
        " quotas, leases, orphans, tickets, tasks, ingests, mails, owners, plans, bills and meters: nothing off\n"
    )


def test_without_a_database_it_says_that_it_could_not_look(tmp_path: Path) -> None:
    away = {
        "DATABASE_URL": "postgresql://batchyard@127.0.0.1:9/none",
        "WEB_DATABASE_URL": "postgresql://batchyard_web@127.0.0.1:9/none",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "STORAGE_URL": tmp_path.as_uri(),
        "SECRET_KEY": "x" * 32,
        "PROVIDER_API_KEY": "none",
    }
    run = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "doctor"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **away},
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("could not look: ")
