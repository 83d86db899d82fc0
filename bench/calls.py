"""A CSV of prompts through one worker process, against a bare script with the same bodies."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bench.figures import Figure
from bench.reviews import reviews_csv
from bench.rig import Rig, scaled, started, tell
from local.process import ROOT

MODEL = "sim-latency-500ms"
OURS = ("web", "worker-1")
# The script takes five times as long; a third of the bodies shows its speed as well.
SCRIPT_PART = 3
SETTLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """Jobs, or calls, a second, and what each took of a CPU in milliseconds."""

    per_second: float
    cpu_milliseconds: float


def calls_256() -> list[Figure]:
    return _measure(concurrency=256, rows=scaled(8_000), asked_per_second=460)


def calls_1024() -> list[Figure]:
    return _measure(concurrency=1024, rows=scaled(15_000), asked_per_second=900)


def _measure(concurrency: int, rows: int, asked_per_second: float) -> list[Figure]:
    with started(workers=1, WORKER_CONCURRENCY=str(concurrency)) as rig:
        rig.wait_for(rig.submit(reviews_csv(2 * concurrency), MODEL), "completed")
        rig.wait_idle()
        ours, batch_id = _through_batchyard(rig, rows)
        rig.wait_idle()
        script = _through_the_script(rig, concurrency, batch_id, rows // SCRIPT_PART)
    return [
        Figure(
            f"calls-{concurrency}: CSV batch, {rows:,} rows",
            ours.per_second,
            "jobs/s",
            baseline=script.per_second,
            value_at_least=asked_per_second,
        ),
        Figure(
            f"calls-{concurrency}: CPU per job, web + worker, CSV in to result stored",
            ours.cpu_milliseconds,
            "ms",
            baseline=script.cpu_milliseconds,
            ratio_at_most=1,
        ),
    ]


def _through_batchyard(rig: Rig, rows: int) -> tuple[Run, UUID]:
    content = reviews_csv(rows)
    rig.forget_calls()
    names = [*OURS, *(name for name in rig.stack.processes if name not in OURS)]
    before = {name: rig.cpu(name) for name in names}
    batch_id = rig.submit(content, MODEL)
    batch = rig.wait_for(batch_id, "completed")
    # When the last outcomes are recorded, the worker has still to put away their claims: that is CPU too.
    time.sleep(SETTLE_SECONDS)
    used = {name: (rig.cpu(name) - before[name]) * 1000 / rows for name in names}
    in_flight = _check_all_there(rig, batch_id, rows)
    shown = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in used.items())
    tell(f"  at most {in_flight:,} calls in flight; CPU ms a job: {shown}")
    seconds = (batch["ended_at"] - batch["started_at"]).total_seconds()
    return Run(rows / seconds, sum(used[name] for name in OURS)), batch_id


def _check_all_there(rig: Rig, batch_id: UUID, rows: int) -> int:
    """Raises unless every row was called once, and has one result and one receipt. Returns the most calls at once."""
    stored = rig.database.execute(
        "SELECT (SELECT count(*) FROM results WHERE batch_id = %(id)s AND outcome = 'succeeded') AS results,"
        " (SELECT count(*) FROM usage_records WHERE batch_id = %(id)s) AS usage_records",
        {"id": batch_id},
    ).fetchone()
    counted = rig.calls()
    if stored != {"results": rows, "usage_records": rows} or counted["calls_per_body"] != {"1": rows}:
        raise RuntimeError(f"of {rows} rows there are {stored}, and the provider counted {counted}")
    most: int = counted["max_in_flight"]
    return most


def _through_the_script(rig: Rig, concurrency: int, batch_id: UUID, calls: int) -> Run:
    """The baseline, in a process of its own, while the stack stands idle: so many of the batch's bodies."""
    jobs = rig.database.execute(
        "SELECT body FROM jobs WHERE batch_id = %s AND seq < %s ORDER BY seq", [batch_id, calls]
    )
    with tempfile.NamedTemporaryFile(prefix="batchyard-bench-", suffix=".jsonl") as file:
        file.writelines(bytes(job["body"]) + b"\n" for job in jobs)
        file.flush()
        script = subprocess.run(
            [sys.executable, "-m", "bench.bare_openai", str(concurrency), str(Path(file.name))],
            cwd=ROOT,
            env={**os.environ, "OPENAI_BASE_URL": rig.provider_url, "OPENAI_API_KEY": "sim", "NO_PROXY": "127.0.0.1"},
            stdout=subprocess.PIPE,
            check=True,
        )
    figures = json.loads(script.stdout)
    return Run(figures["calls"] / figures["seconds"], figures["cpu_seconds"] * 1000 / figures["calls"])
