"""Starts a process again when it died by itself: after a second, then twice as long each time."""

import time
from collections.abc import Callable, Iterable

from local.errors import StackError
from local.process import Process

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
HEALTHY_SECONDS = 60.0


class Watch:
    """Remembers, for each process, how often it died lately. `tell` gets one line for every event, and no delay is
    longer than `longest_delay_seconds`."""

    def __init__(self, tell: Callable[[str], None], longest_delay_seconds: float = LONGEST_DELAY_SECONDS) -> None:
        self._tell = tell
        self._longest_delay = longest_delay_seconds
        self._delays: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def tend(self, processes: Iterable[Process]) -> bool:
        """Looks at each process once and starts those whose time has come. True when one was started.

        Never waits, except for what a process itself must wait for before it starts.
        """
        started = [self._tend_one(process) for process in processes]
        return any(started)

    def _tend_one(self, process: Process) -> bool:
        now = time.monotonic()
        if process.running or not process.wanted or process.has_ended_as_asked:
            self._due.pop(process.name, None)
            return False
        due = self._due.get(process.name)
        if due is None:
            self._note_death(process, now)
            return False
        return now >= due and self._start(process, now)

    def _note_death(self, process: Process, now: float) -> None:
        healthy = now - self._started.get(process.name, now - HEALTHY_SECONDS) >= HEALTHY_SECONDS
        delay = FIRST_DELAY_SECONDS if healthy else self._delays.get(process.name, FIRST_DELAY_SECONDS)
        self._due[process.name] = now + delay
        self._delays[process.name] = min(2 * delay, self._longest_delay)
        process.kill_group()
        self._tell(
            f"{process.name} ended ({process.describe_end()}); starting it again in {delay:.0f} s: {process.log}"
        )

    def _start(self, process: Process, now: float) -> bool:
        del self._due[process.name]
        try:
            process.start()
        except (StackError, OSError) as error:
            self._tell(f"{process.name} could not be started: {error}")
            self._due[process.name] = now + self._longest_delay
            return False
        self._started[process.name] = time.monotonic()
        self._tell(f"{process.name} runs again (pid {process.pid})")
        return True
