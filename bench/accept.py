"""Single jobs accepted a second, each stored before its 202, against a bare Flask route under the same gunicorn."""

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvloop

from bench.cpu import cpu_seconds
from bench.figures import Figure
from bench.load import Figures, drive
from bench.rig import scaled, started, tell
from local.ports import free_port, is_free
from local.process import Process, wait_until

CONNECTIONS = 32
SECONDS = 8.0
# Every thread of both processes has its connection, and PostgreSQL has planned on each what it is asked.
WARM_UP_SECONDS = 4.0
# An accepted job stays: 20,000 rows at most in all.
MAX_JOBS = 10_000
WEB = {"WEB_PROCESSES": "2", "WEB_THREADS": "32"}


def accept() -> list[Figure]:
    with started(workers=0, **WEB) as rig:
        ours, our_cpu = _measure(rig.stack.port, rig.authorization, rig.pid("web"))
        stored = rig.database.execute("SELECT count(*) AS jobs FROM jobs").fetchone()
        rig.wait_idle()
        with _bare_route(rig.stack.env) as (process, port):
            bare, bare_cpu = _measure(port, rig.authorization, process.pid)
    tell(f"  {stored} stored")
    return [
        Figure(
            "accept: single jobs, 2 web processes",
            ours.per_second,
            "/s",
            baseline=bare.per_second,
            note="later: ratio >= 0.25",
        ),
        Figure("accept: CPU a request, web", our_cpu, "ms", baseline=bare_cpu),
    ]


@contextmanager
def _bare_route(env: Mapping[str, str]) -> Iterator[tuple[Process, int]]:
    """The bare route, served with the settings of our own web processes but for the port."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "web/gunicorn.py", "bench.bare_flask:app"]
    with tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder:
        process = Process("bare", command, Path(folder) / "bare.log", {**os.environ, **env, "PORT": str(port)})
        process.start()
        try:
            if not wait_until(lambda: not is_free(port), 30):
                raise RuntimeError(f"the bare route did not start: {process.report()}")
            yield process, port
        finally:
            process.stop()


def _measure(port: int, authorization: Mapping[str, str], pid: int) -> tuple[Figures, float]:
    """What the load generator saw, and CPU milliseconds of the web processes for a request."""
    _load(port, authorization, WARM_UP_SECONDS)
    before = cpu_seconds(pid)
    figures = _load(port, authorization, SECONDS)
    return figures, (cpu_seconds(pid) - before) * 1000 / figures.answered


def _load(port: int, authorization: Mapping[str, str], seconds: float) -> Figures:
    bodies = itertools.islice(_bodies(scaled(100) / 100 * seconds), MAX_JOBS)
    figures = uvloop.run(drive("127.0.0.1", port, "/v1/jobs", bodies, CONNECTIONS, authorization))
    if set(figures.statuses) != {202} or figures.dropped:
        raise RuntimeError(f"not all were accepted: {figures.statuses}, {figures.dropped} dropped")
    return figures


def _bodies(seconds: float) -> Iterator[bytes]:
    """Jobs of a review's length, no two alike, until the time is up."""
    review = "The colour is nicer than in the picture, and it feels solid; the lid does not close any more. " * 3
    deadline = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() > deadline:
            return
        yield json.dumps({"model": "sim", "prompt": f"Sum up the review of order {number}: {review}"}).encode()
