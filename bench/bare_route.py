"""The bare routes under the same gunicorn as our own."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local.ports import free_port, is_free
from local.process import Process, wait_until


@contextmanager
def running(env: Mapping[str, str]) -> Iterator[tuple[Process, int]]:
    """The bare routes, served with the settings of our own web processes but for the port."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "web/gunicorn.py", "bench.bare_flask:app"]
    with tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder:
        process = Process("bare", command, Path(folder) / "bare.log", {**os.environ, **env, "PORT": str(port)})
        process.start()
        try:
            if not wait_until(lambda: not is_free(port), 30):
                raise RuntimeError(f"the bare routes did not start: {process.report()}")
            yield process, port
        finally:
            process.stop()
