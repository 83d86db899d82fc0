"""Single jobs accepted a second, each stored before its 202, against a bare Flask route under the same gunicorn."""

import json
from collections.abc import Iterator, Mapping
from statistics import median

import uvloop

from bench import bare_route
from bench.cpu import cpu_seconds
from bench.figures import Figure
from bench.load import Figures, drive
from bench.rig import Rig, scaled, started, tell

CONNECTIONS = 32
JOBS = 1_500
ROUNDS = 7
# By then every thread of both processes has its connection, and PostgreSQL has a plan for everything on each.
WARM_UP_JOBS = 2_000
ASKED_RATIO = 0.25


def accept() -> list[Figure]:
    with (
        started(workers=0, WEB_PROCESSES="2", WEB_REQUESTS_AT_ONCE="32") as rig,
        bare_route.running(rig.stack.env) as (process, port),
    ):
        servers = {"ours": (rig.stack.port, rig.pid("web")), "bare": (port, process.pid)}
        for server_port, _ in servers.values():
            _load(server_port, rig.authorization, WARM_UP_JOBS)
        rates: dict[str, list[float]] = {name: [] for name in servers}
        cpu: dict[str, list[float]] = {name: [] for name in servers}
        # In turns, so that what the host gives to one it gives to the other.
        for _ in range(ROUNDS):
            for name, (server_port, pid) in servers.items():
                figures, milliseconds = _measure(server_port, rig.authorization, pid)
                rates[name].append(figures.per_second)
                cpu[name].append(milliseconds)
        _check_stored(rig, WARM_UP_JOBS + ROUNDS * scaled(JOBS))
    return [
        Figure(
            f"accept: single jobs, 2 web processes, median of {ROUNDS} rounds",
            median(rates["ours"]),
            "/s",
            baseline=median(rates["bare"]),
            ratio_at_least=ASKED_RATIO,
        ),
        Figure("accept: CPU a request, web", median(cpu["ours"]), "ms", baseline=median(cpu["bare"])),
    ]


def _check_stored(rig: Rig, accepted: int) -> None:
    """A 202 means that the job is in PostgreSQL."""
    stored = rig.database.execute("SELECT count(*) AS jobs FROM jobs").fetchone()
    if stored != {"jobs": accepted}:
        raise RuntimeError(f"{accepted} jobs were accepted, and stored: {stored}")


def _measure(port: int, authorization: Mapping[str, str], pid: int) -> tuple[Figures, float]:
    """What the load generator saw, and CPU milliseconds of the web processes for a request."""
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
