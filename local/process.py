"""One child process of the stack: started, signalled, stopped; its output goes to a log file."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local.errors import StackError

ROOT = Path(__file__).resolve().parent.parent
TETHER = Path(__file__).with_name("tether.py")
POLL_SECONDS = 0.02
LOG_TAIL_BYTES = 6_000


class Process:
    """A program run in a session of its own, so that Ctrl-C in a terminal reaches the stack and not this program.

    `stop_signal` asks it to end, `grace_seconds` is how long it may take before it is killed, and `orphan_signal` is
    what the kernel sends it when the stack is killed (Linux). `user` is (uid, gid), None for our own. `wanted` is true
    from start to stop: a process that is wanted and does not run has died by itself, unless it `may_end`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 10,
        orphan_signal: signal.Signals | None = None,
        user: tuple[int, int] | None = None,
        before_start: Callable[[], None] | None = None,
        may_end: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self.grace_seconds = grace_seconds
        self._command = [*command]
        self._env = {**env}
        self._orphan_signal = orphan_signal or stop_signal
        self._user = user
        self._before_start = before_start
        self._may_end = may_end
        self.wanted = False
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The process id; raises StackError when the process was never started."""
        if self._child is None:
            raise StackError(f"{self.name} was never started")
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs or before it is started; negative when a signal ended it."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def has_ended_as_asked(self) -> bool:
        """Whether it ended with 0, which one that `may_end` does only when it was asked to."""
        return self._may_end and self.exit_status == 0

    def start(self) -> None:
        """Starts it. Call from a thread that lives as long as the stack: the kernel ties the child to that thread."""
        if self.running:
            return
        self.wanted = True
        if self._before_start is not None:
            self._before_start()
        user = "-" if self._user is None else f"{self._user[0]}:{self._user[1]}"
        tether = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(int(self._orphan_signal)), user]
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                [*tether, *self._command],
                env=self._env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def send(self, sign: signal.Signals) -> None:
        """Sends a signal; nothing happens when the process has ended."""
        if self._child is not None:
            self._child.send_signal(sign)

    def wait(self, seconds: float) -> bool:
        """True when it ended in time."""
        if self._child is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
        return not self.running

    def stop(self) -> None:
        """Asks it to end, kills it after the grace, and returns when it and its group are gone."""
        self.wanted = False
        self.send(self.stop_signal)
        if not self.wait(self.grace_seconds):
            self.send(signal.SIGKILL)
            self.wait(self.grace_seconds)
        self.kill_group()

    def kill_group(self) -> None:
        """Kills what an ended process left in its group, such as the workers of a killed gunicorn."""
        if self._child is not None and not self.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def report(self) -> str:
        """For a message: how it ended, the end of what it wrote since it was last started, and where the rest is."""
        written = ""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            written = log.read().decode(errors="replace").strip()
        return f"{self.describe_end()}\n{written}\n(its log: {self.log})"

    def describe_end(self) -> str:
        """Why it ended, for a message: `exit status 1` or `killed by SIGKILL`."""
        status = self.exit_status
        if status is None:
            return "still running"
        return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def wait_until(ready: Callable[[], bool], seconds: float, poll_seconds: float = POLL_SECONDS) -> bool:
    """Polls until `ready` answers true; False when the time is up."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        # Between two looks: what is waited for may be anything, and tells nobody.
        time.sleep(poll_seconds)
    return True
