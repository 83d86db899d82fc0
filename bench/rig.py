"""A stack of its own for one measurement: started, warmed up, watched, removed."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psycopg
from psycopg.rows import DictRow, dict_row

from bench.cpu import cpu_seconds
from local.process import ROOT, Process
from local.stack import Stack

POLL_SECONDS = 0.1
# A stack that uses less than this much of one core is idle: sweeps and heart-beats go on.
IDLE_CPU_SHARE = 0.05
IDLE_LOOK_SECONDS = 0.5
LONGEST_WAIT_FOR_IDLE_SECONDS = 30
BATCH_SECONDS = 300
ENDED = frozenset({"completed", "failed", "cancelled", "expired"})

PROMPT = "Classify the sentiment of this review of {{product}} as positive, neutral or negative: {{review}}"


def scaled(rows: int) -> int:
    """So many rows, or fewer when BENCH_SCALE says so: 0.2 is a quick look, and its figures prove nothing."""
    return max(1, round(rows * float(os.environ.get("BENCH_SCALE") or 1)))


def tell(line: str) -> None:
    """A line for the person who waits; the table alone goes to stdout."""
    print(line, file=sys.stderr, flush=True)


class Rig:
    """A running stack, with a connection to its database and a client of its API (the team plan's key)."""

    def __init__(self, stack: Stack, database: psycopg.Connection[DictRow], client: httpx2.Client) -> None:
        self.stack = stack
        self.database = database
        self.client = client
        self.authorization = {"Authorization": f"Bearer {stack.env['TEAM_API_KEY']}"}
        self.provider_url = stack.env["PROVIDER_URL"]

    def pid(self, name: str) -> int:
        return self.stack.processes[name].pid

    def cpu(self, *names: str) -> float:
        """CPU seconds so far of these processes of the stack."""
        return cpu_seconds(*map(self.pid, names))

    def worker(self) -> Process:
        """The one worker process."""
        return self.stack.processes["worker-1"]

    def kill_worker(self) -> None:
        """Ends the worker as a crash would, with the calls it has in flight."""
        worker = self.worker()
        worker.grace_seconds = 0
        worker.stop()

    def wait_idle(self) -> None:
        """Returns once the stack does nothing; says so when it goes on for long."""
        names = list(self.stack.processes)
        deadline = time.monotonic() + LONGEST_WAIT_FOR_IDLE_SECONDS
        while time.monotonic() < deadline:
            before = {name: self.cpu(name) for name in names if self.stack.processes[name].running}
            # The time over which the CPU is looked at.
            time.sleep(IDLE_LOOK_SECONDS)
            used = {name: self.cpu(name) - before[name] for name in before}
            if sum(used.values()) <= IDLE_CPU_SHARE * IDLE_LOOK_SECONDS:
                return
        tell(f"  the stack does not come to rest; CPU seconds in the last {IDLE_LOOK_SECONDS} s: {used}")

    def submit(self, content: bytes, model: str, key: str | None = None) -> UUID:
        """Uploads a CSV of reviews as a batch, of the account whose key it is. Returns its id when it is accepted."""
        answer = self.client.post(
            "/v1/batches",
            data={"model": model, "prompt": PROMPT, "max_tokens": "60"},
            files={"file": ("reviews.csv", content, "text/csv")},
            headers=self._headers(key),
        )
        if answer.status_code != 202:
            raise RuntimeError(f"the batch was not accepted: {answer.status_code} {answer.text}")
        return UUID(answer.json()["id"].removeprefix("batch_"))

    def cancel(self, batch_id: UUID, key: str | None = None) -> None:
        """Cancels a batch and returns when its every row has ended."""
        path = f"/v1/batches/batch_{batch_id.hex}/cancel"
        self.client.post(path, headers=self._headers(key)).raise_for_status()
        self.wait_for(batch_id, "cancelled")

    def _headers(self, key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key is not None else self.authorization

    def batch(self, batch_id: UUID) -> DictRow:
        """The batch as PostgreSQL has it, because asking the API would cost what is being measured."""
        row = self.database.execute(_BATCH, [batch_id]).fetchone()
        assert row is not None
        return row

    def wait_for(self, batch_id: UUID, *states: str) -> DictRow:
        """The batch once it is in one of these states. Raises when it ends otherwise, or not in BATCH_SECONDS."""
        deadline = time.monotonic() + BATCH_SECONDS
        while (batch := self.batch(batch_id))["state"] not in states:
            if batch["state"] in ENDED or time.monotonic() > deadline:
                raise RuntimeError(f"the batch is {batch['state']} and not {' or '.join(states)}: {batch['errors']}")
            # Between two looks, so that looking costs the database next to nothing.
            time.sleep(POLL_SECONDS)
        return batch

    def bare_copy(self, batch_id: UUID) -> float:
        """Seconds that the baseline takes for the same rows, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "bench.bare_copy", str(batch_id)],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": self.stack.env["DATABASE_URL"]},
            stdout=subprocess.PIPE,
            check=True,
        )
        copied = json.loads(done.stdout)
        tell(f"  bare COPY, {copied['format']}: {copied['seconds']:.2f} s")
        seconds: float = copied["seconds"]
        return seconds

    def calls(self) -> dict[str, Any]:
        """What the simulated provider counted since forget_calls()."""
        answer = httpx2.get(self.provider_url.removesuffix("/v1") + "/_sim/calls", trust_env=False)
        counted: dict[str, Any] = answer.raise_for_status().json()
        return counted

    def forget_calls(self) -> None:
        httpx2.post(self.provider_url.removesuffix("/v1") + "/_sim/reset", trust_env=False).raise_for_status()


@contextmanager
def started(*, workers: int, deliverers: int = 0, **settings: str) -> Iterator[Rig]:
    """A stack in a temporary home, durable as one in use, with these settings; nothing of it is left at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder,
        Stack(
            Path(folder) / "home",
            workers=workers,
            deliverers=deliverers,
            extra_env=settings,
            with_stripe=False,
            keep=False,
        ) as stack,
        psycopg.connect(stack.env["DATABASE_URL"], autocommit=True, row_factory=dict_row) as database,
        httpx2.Client(base_url=stack.base_url, timeout=BATCH_SECONDS, trust_env=False) as client,
    ):
        rig = Rig(stack, database, client)
        client.headers.update(rig.authorization)
        yield rig


_BATCH = "SELECT state, errors, created_at, in_progress_at, started_at, ended_at FROM batches WHERE id = %s"
