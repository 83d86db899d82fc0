"""`python -m bench [NAME...]`: takes the measurements whose names begin so, or all, and prints one table.

BENCH_SCALE=0.2 takes a fifth of the rows, for a quick look. Exits 1 when a figure falls short of what is asked.
"""

import os
import platform
import sys
import time
import timeit
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import psutil

from bench.accept import accept
from bench.calls import calls_256, calls_1024
from bench.claim import claim
from bench.cpu import cpu_seconds
from bench.csv_batch import csv_batch
from bench.fairness import fairness
from bench.figures import Figure, table
from bench.jsonl_batch import jsonl_batch
from bench.metering import rollup
from bench.provider import provider
from bench.rig import tell
from bench.single import single
from bench.upload import upload
from bench.webhooks import webhooks

MEASUREMENTS: dict[str, Callable[[], list[Figure]]] = {
    "provider": provider,
    "calls-256": calls_256,
    "calls-1024": calls_1024,
    "csv": csv_batch,
    "jsonl": jsonl_batch,
    "fairness": fairness,
    "claim": claim,
    "single": single,
    "accept": accept,
    "upload": upload,
    "webhooks": webhooks,
    "rollup": rollup,
}


@dataclass(frozen=True, slots=True)
class _Busy:
    """A moment: CPU seconds so far of the whole machine, of this program with all it started, and of the host above."""

    at: float
    machine: float
    ours: float
    stolen: float

    @classmethod
    def now(cls) -> Self:
        times = psutil.cpu_times()
        stolen = getattr(times, "steal", 0.0)
        machine = sum(times) - times.idle - getattr(times, "iowait", 0.0) - stolen
        return cls(time.monotonic(), machine, cpu_seconds(os.getpid()), stolen)

    def since(self) -> str:
        """How long ago it was, and what others took of the machine meanwhile: they cost us speed."""
        now = self.now()
        seconds = now.at - self.at
        others = max(0.0, (now.machine - self.machine) - (now.ours - self.ours)) / seconds
        stolen = (now.stolen - self.stolen) / seconds
        return f"took {seconds:.0f} s; other programs used {others:.2f} CPUs meanwhile, the host withheld {stolen:.2f}"


def main() -> None:
    chosen = _chosen(sys.argv[1:])
    tell(_machine())
    figures: list[Figure] = []
    broken = []
    for name in chosen:
        tell(f"{name} ...")
        before = _Busy.now()
        try:
            figures += MEASUREMENTS[name]()
        # Whatever it is, the other measurements can still be taken.
        except Exception:
            traceback.print_exc()
            broken.append(name)
        tell(f"  {before.since()}")
    print(f"\n{table(figures)}")
    if broken:
        print(f"\nnot measured, because of an error: {', '.join(broken)}")
    sys.exit(1 if broken or any(figure.short for figure in figures) else 0)


def _machine() -> str:
    """Where the figures come from. The time of a fixed loop says how fast the machine is just now."""
    scale, load = os.environ.get("BENCH_SCALE") or "1", psutil.getloadavg()[0]
    loop = min(timeit.repeat(lambda: sum(range(1_000_000)), number=1, repeat=10)) * 1000
    python = f"Python {platform.python_version()}"
    return f"{python}, {psutil.cpu_count()} CPUs, load {load:.2f}, scale {scale}; summing a million takes {loop:.1f} ms"


def _chosen(asked: list[str]) -> list[str]:
    for name in asked:
        if not any(known.startswith(name) for known in MEASUREMENTS):
            sys.exit(f"bench: there is no measurement {name!r}: choose from {', '.join(MEASUREMENTS)}")
    return [name for name in MEASUREMENTS if not asked or name.startswith(tuple(asked))]


if __name__ == "__main__":
    main()
