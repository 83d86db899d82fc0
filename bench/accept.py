"""Single jobs accepted a second, each stored before its 202, against a bare Flask route under the same gunicorn."""

import json
from collections.abc import Iterator, Mapping

import uvloop

from bench import bare_route
from bench.cpu import cpu_seconds
from bench.figures import Figure
from bench.load import Figures, drive
from bench.rig import Rig, scaled, started, tell

CONNECTIONS = 32
JOBS = 5_000
# By then every thread of both processes has its connection, and PostgreSQL has a plan for everything on each.
WARM_UP_JOBS = 2_000
ASKED_RATIO = 0.25
WEB = {"WEB_PROCESSES": "2", "WEB_THREADS": "32"}


def accept() -> list[Figure]:
    with started(workers=0, **WEB) as rig:
        ours, our_cpu = _measure(rig.stack.port, rig.authorization, rig.pid("web"))
        _check_stored(rig, WARM_UP_JOBS + ours.answered)
        rig.wait_idle()
        with bare_route.running(rig.stack.env) as (process, port):
            bare, bare_cpu = _measure(port, rig.authorization, process.pid)
    return [
        Figure(
            "accept: single jobs, 2 web processes",
            ours.per_second,
            "/s",
            baseline=bare.per_second,
            ratio_at_least=ASKED_RATIO,
        ),
        Figure("accept: CPU a request, web", our_cpu, "ms", baseline=bare_cpu),
    ]


def _check_stored(rig: Rig, accepted: int) -> None:
    """A 202 means that the job is in PostgreSQL."""
    stored = rig.database.execute("SELECT count(*) AS jobs FROM jobs").fetchone()
    if stored != {"jobs": accepted}:
        raise RuntimeError(f"{accepted} jobs were accepted, and stored: {stored}")


def _measure(port: int, authorization: Mapping[str, str], pid: int) -> tuple[Figures, float]:
    """What the load generator saw, and CPU milliseconds of the web processes for a request."""
    _load(port, authorization, WARM_UP_JOBS)
    before = cpu_seconds(pid)
    figures = _load(port, authorization, scaled(JOBS))
    return figures, (cpu_seconds(pid) - before) * 1000 / figures.answered


def _load(port: int, authorization: Mapping[str, str], jobs: int) -> Figures:
    figures = uvloop.run(drive("127.0.0.1", port, "/v1/jobs", _bodies(jobs), CONNECTIONS, authorization))
    if figures.statuses != {202: figures.answered} or figures.dropped:
        raise RuntimeError(f"not all were accepted: {figures.statuses}, {figures.dropped} dropped")
    tell(f"  {figures.answered:,} requests, {figures.per_second:,.0f}/s, median {figures.latency(0.5) * 1000:.0f} ms")
    return figures


def _bodies(jobs: int) -> Iterator[bytes]:
    """Jobs of a review's length, no two alike."""
    review = "The colour is nicer than in the picture, and it feels solid; the lid does not close any more. " * 3
    for number in range(jobs):
        yield json.dumps({"model": "sim", "prompt": f"Sum up the review of order {number}: {review}"}).encode()
