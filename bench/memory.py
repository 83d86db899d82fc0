"""How much processes grow while something happens."""

import threading
from types import TracebackType
from typing import Self

import psutil

from bench.figures import Figure

POLL_SECONDS = 0.02
# A new child appears within this time of its start.
LOOK_SECONDS = 0.25
MIB = 2**20
ASKED_GROWTH_MIB = 150


class Growth:
    """Watches the trees of named processes in a `with` statement; `of(name)` then tells how far its worst one grew.

    Memory is RSS, which is cheap enough to poll fifty times a second; growth is the most seen less what the process had
    before. A process that starts meanwhile counts whole, from nothing, pages it shares with its parent included: it
    goes by the name of its root, with " child".
    """

    def __init__(self, **pids: int) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._names: dict[psutil.Process, str] = {}
        self._before: dict[psutil.Process, int] = {}
        self._most: dict[psutil.Process, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="growth")

    def __enter__(self) -> Self:
        self._look()
        for process in self._names:
            self._before[process] = _rss(process)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def of(self, name: str) -> float:
        """MiB that the process of this name that grew most grew by; 0 when there was none."""
        grown = [
            self._most.get(process, 0) - self._before.get(process, 0)
            for process, called in self._names.items()
            if called == name
        ]
        return max([0, *grown]) / MIB

    def _watch(self) -> None:
        until_look = 0.0
        while not self._ended.wait(POLL_SECONDS):
            until_look -= POLL_SECONDS
            if until_look <= 0:
                until_look = LOOK_SECONDS
                self._look()
            for process in self._names:
                self._most[process] = max(self._most.get(process, 0), _rss(process))

    def _look(self) -> None:
        """Finds the processes there are now."""
        first = not self._before
        for name, root in self._roots.items():
            try:
                found = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in found:
                self._names.setdefault(process, name if first else f"{name} child")


def batch_figures(name: str, reading: Growth, sending: Growth) -> list[Figure]:
    """The memory that a batch takes: `reading` watched web and worker until it was in_progress, `sending` web while its
    results were downloaded."""
    grown = {
        "web, upload": reading.of("web"),
        "worker, ingest": reading.of("worker"),
        "ingest process, all of it": reading.of("worker child"),
        "web, download": sending.of("web"),
    }
    return [
        Figure(f"{name}: growth of RSS, {what}", mebibytes, "MiB", value_below=ASKED_GROWTH_MIB)
        for what, mebibytes in grown.items()
    ]


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
