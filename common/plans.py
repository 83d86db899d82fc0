"""The plans as data: what an account may do, and how its work is weighed against others'."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan gives.

    `weight` is its share of the workers' attention. `max_rows` bounds one batch and `max_file_bytes` one file. Files,
    and the jobs and results of batches that have ended, are kept for `retention_days`. `models` are names a customer
    may ask for; one that ends in * stands for all that begin so.
    """

    name: str
    weight: int
    max_rows: int
    max_file_bytes: int
    retention_days: int
    models: tuple[str, ...] = ("*",)

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.retention_days)


PLANS = {
    plan.name: plan
    for plan in (
        Plan("free", weight=1, max_rows=10_000, max_file_bytes=100 * 2**20, retention_days=7),
        Plan("pro", weight=3, max_rows=250_000, max_file_bytes=2**30, retention_days=30),
        Plan("team", weight=6, max_rows=2_000_000, max_file_bytes=2 * 2**30, retention_days=90),
    )
}
