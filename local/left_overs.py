"""Processes of a stack that was killed before it could stop them. The next start in the same home ends them first."""

import contextlib
import json
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from local.home import write_private
from local.process import Process

STOP_SECONDS = 10
# A process id is used again some day; the same id that began at another time is another program.
SAME_START_SECONDS = 2.0


def remember(record: Path, processes: Iterable[Process]) -> None:
    """Writes which processes run now, in the order they were started."""
    running = [process for process in processes if process.running]
    write_private(record, json.dumps([_entry(process) for process in running]))


def stop_all(record: Path) -> list[str]:
    """Stops what the record names and still runs, last started first. Returns the names."""
    stopped = []
    for name, pid, created, stop_signal in reversed(_read(record)):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < SAME_START_SECONDS:
                _stop(process, signal.Signals(stop_signal))
                stopped.append(name)
    record.unlink(missing_ok=True)
    return stopped


def _entry(process: Process) -> list[object]:
    created = 0.0
    with contextlib.suppress(psutil.Error):
        created = psutil.Process(process.pid).create_time()
    return [process.name, process.pid, created, int(process.stop_signal)]


def _read(record: Path) -> list[tuple[str, int, float, int]]:
    # A record cut short is no reason not to start.
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [(str(name), int(pid), float(created), int(sign)) for name, pid, created, sign in _load(record)]
    return []


def _load(record: Path) -> list[tuple[str, int, float, int]]:
    loaded: list[tuple[str, int, float, int]] = json.loads(record.read_text())
    return loaded


def _stop(process: psutil.Process, stop_signal: signal.Signals) -> None:
    process.send_signal(stop_signal)
    try:
        process.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
