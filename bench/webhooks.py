"""How late webhooks are while some receivers hang, and what they cost the generation beside them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from bench.figures import Figure, milliseconds, percentile
from bench.reviews import reviews_csv
from bench.rig import Rig, scaled, started, tell
from local.process import ROOT

MODEL = "sim-latency-500ms"
# Bound by the provider, as real generation is, and not by this machine's two cores.
CONCURRENCY = 64
JOBS = 3_200
SECONDS = JOBS / (2 * CONCURRENCY)
ROUNDS = 2
ASKED_P99_MS = 2_000
ASKED_SHARE = 0.97


@dataclass(frozen=True, slots=True)
class Told:
    """What came of events: the seconds that each was late, and how many there were a second."""

    late: list[float]
    per_second: float


def webhooks() -> list[Figure]:
    alone: list[float] = []
    beside: list[float] = []
    told: list[Told] = []
    with started(workers=1, deliverers=1, WORKER_CONCURRENCY=str(CONCURRENCY)) as rig:
        _generate(rig, 4 * CONCURRENCY)
        for _ in range(ROUNDS):
            rig.wait_idle()
            alone.append(_generate(rig, scaled(JOBS)))
            rig.wait_idle()
            events = _begin_events(rig)
            beside.append(_generate(rig, scaled(JOBS)))
            told.append(_end_events(events))
            tell(f"  {beside[-1]:.1f} jobs/s beside {told[-1].per_second:.0f} events/s, {alone[-1]:.1f} alone")
    late = [seconds for each in told for seconds in each.late]
    return [
        Figure("webhooks: event to arrival, median", milliseconds(late), "ms", note="200 events/s, 10 of 50 hang"),
        Figure("webhooks: the same, p99", percentile(late, 0.99) * 1000, "ms", value_below=ASKED_P99_MS),
        Figure(
            "webhooks: generation beside them",
            sum(beside) / ROUNDS,
            "jobs/s",
            baseline=sum(alone) / ROUNDS,
            ratio_at_least=ASKED_SHARE,
        ),
    ]


def _generate(rig: Rig, rows: int) -> float:
    """Jobs a second."""
    batch = rig.wait_for(rig.submit(reviews_csv(rows), MODEL), "completed")
    return float(rows / (batch["ended_at"] - batch["started_at"]).total_seconds())


def _begin_events(rig: Rig) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench.events", str(scaled(JOBS) / JOBS * SECONDS)],
        cwd=ROOT,
        env={**os.environ, **rig.stack.env},
        stdout=subprocess.PIPE,
    )


def _end_events(running: "subprocess.Popen[bytes]") -> Told:
    shown, _ = running.communicate()
    if running.returncode != 0:
        raise RuntimeError("events did not arrive")
    return Told(**json.loads(shown))
