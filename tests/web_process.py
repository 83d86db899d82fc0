"""A web process of its own beside the stack's: for tests that take its services away, stop it or kill it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import httpx2
import psutil

from local.ports import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]


class WebProcess:
    """gunicorn and its processes; `url` is its address."""

    def __init__(self, env: dict[str, str], processes: int = 1, log: IO[bytes] | None = None) -> None:
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        settings = {**os.environ, **env, "PORT": port, "WEB_PROCESSES": str(processes)}
        command = [sys.executable, "-m", "gunicorn", "-c", "web/gunicorn.py", "wsgi:app"]
        # In a session of its own: a signal reaches all of its processes.
        self._leader = subprocess.Popen(
            command, cwd=ROOT, env=settings, stderr=log or subprocess.DEVNULL, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """Of the gunicorn that leads."""
        return self._leader.pid

    def wait_alive(self) -> None:
        wait_for(self._is_alive, bool)

    def _is_alive(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/healthz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def send(self, sign: signal.Signals) -> None:
        """Sends a signal to every process; nothing happens when they have ended."""
        with suppress(ProcessLookupError):
            os.killpg(self._leader.pid, sign)

    def freeze(self) -> None:
        """Returns when every process stands still: a thread of one may go on for a moment after the signal."""
        self.send(signal.SIGSTOP)
        leader = psutil.Process(self.pid)
        processes = [leader, *leader.children()]
        wait_for(lambda: {process.status() for process in processes}, lambda found: found == {psutil.STATUS_STOPPED})

    def ended(self, seconds: float) -> int:
        """The exit status of the gunicorn that leads, which ends within this time."""
        return self._leader.wait(seconds)

    def kill(self) -> None:
        """Ends every process without a word."""
        self.send(signal.SIGKILL)
        self._leader.wait()


@contextmanager
def web_process(env: dict[str, str], processes: int = 1, log: IO[bytes] | None = None) -> Iterator[WebProcess]:
    """A web process with these settings, alive; it is killed in the end. What it logs goes to `log`."""
    process = WebProcess(env, processes, log)
    try:
        process.wait_alive()
        yield process
    finally:
        process.kill()
