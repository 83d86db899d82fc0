"""How much is done and how much is broken in a run; each is a flag of `python -m chaos`."""

import argparse
import random
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one run. The same seed gives the same jobs and the same disturbances in the same order."""

    seed: int
    jobs: int = 20_000
    workers: int = 3
    concurrency: int = 32  # calls in flight of each worker
    latency_ms: int = 600  # of a call
    worker_kills: int = 50
    web_kills: int = 5
    deliverer_kills: int = 10
    redis_flushes: int = 3
    redis_kills: int = 2
    postgres_crashes: int = 1
    postgres_restarts: int = 1
    failing_percent: float = 5.0  # calls that the provider fails
    refusing_percent: float = 1.0  # calls that it answers 429
    stripe_failing_percent: float = 20.0  # meter events that Stripe fails, half of them once taken
    most_seconds: int = 1_800  # of one run
    baseline: int = 1  # 0: without the undisturbed run, and nothing is asked of the time

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> Self:
        parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
        parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
        for field in fields(cls):
            if field.name != "seed":
                parser.add_argument(
                    f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default
                )
        return cls(**vars(parser.parse_args(arguments)))

    def repeated_by(self) -> str:
        """The command that gives this run again."""
        changed = [
            f"--{field.name.replace('_', '-')} {getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return " ".join(["python -m chaos", *changed])
