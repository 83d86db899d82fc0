"""The plans as data: what an account may do, and how its work is weighed against others'."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """`weight` is the plan's share of the workers' attention; `max_rows` bounds the rows of one batch."""

    name: str
    weight: int
    max_rows: int


PLANS = {
    plan.name: plan
    for plan in (
        Plan("free", weight=1, max_rows=10_000),
        Plan("pro", weight=3, max_rows=250_000),
        Plan("team", weight=6, max_rows=2_000_000),
    )
}
