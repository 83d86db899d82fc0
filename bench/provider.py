"""The simulated provider alone: it has to be so fast that it hides nothing of our own speed."""

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvloop

from bench.cpu import cpu_seconds
from bench.figures import Figure
from bench.load import drive
from bench.rig import scaled, tell
from local.ports import free_port, is_free
from local.process import Process, wait_until

CONNECTIONS = 256
REQUESTS = 60_000
WARM_UP_REQUESTS = 5_000
ASKED_PER_CPU_SECOND = 5_000


def provider() -> list[Figure]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder:
        command = [sys.executable, "-m", "local.provider", "--port", str(port)]
        process = Process("provider", command, Path(folder) / "provider.log", os.environ)
        process.start()
        try:
            if not wait_until(lambda: not is_free(port), 30):
                raise RuntimeError(f"the simulated provider did not start: {process.report()}")
            per_cpu_second = _measure(process, port)
        finally:
            process.stop()
    return [
        Figure(
            "provider: requests per CPU second, no latency",
            per_cpu_second,
            "/s",
            value_at_least=ASKED_PER_CPU_SECOND,
        )
    ]


def _measure(process: Process, port: int) -> float:
    path, headers = "/v1/chat/completions", {"Authorization": "Bearer sim"}
    bodies = _bodies()

    def load(requests: int) -> None:
        figures = uvloop.run(drive("127.0.0.1", port, path, itertools.islice(bodies, requests), CONNECTIONS, headers))
        if figures.statuses != {200: requests}:
            raise RuntimeError(f"of {requests} requests: {figures.statuses}, {figures.dropped} dropped")
        tell(f"  {requests:,} requests, {figures.per_second:,.0f}/s, p99 {figures.latency(0.99) * 1000:.0f} ms")

    load(WARM_UP_REQUESTS)
    requests = scaled(REQUESTS)
    before = cpu_seconds(process.pid)
    load(requests)
    return requests / (cpu_seconds(process.pid) - before)


def _bodies() -> Iterator[bytes]:
    """Chat completions of a review's length, no two alike."""
    review = "The colour is nicer than in the picture, and it feels solid; the lid does not close any more. " * 3
    for number in itertools.count():
        content = f"Classify the sentiment of this review of order {number}: {review}"
        body = {"model": "sim", "messages": [{"role": "user", "content": content}], "max_tokens": 60}
        yield json.dumps(body).encode()
