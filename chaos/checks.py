"""The books of a run, compared: what was accepted, what PostgreSQL holds, what the provider counted."""

from collections import Counter
from typing import LiteralString

from chaos.figures import Figure, exactly, none
from chaos.parts import MARK
from chaos.rig import Rig
from chaos.run import Run
from chaos.sizes import Sizes

# Bounds of the time: of the undisturbed run's, and a lease with the sweep that ends it, for what the last kill held.
ASKED_RATIO = 1.5
LEASE_AND_SWEEP_SECONDS = 22.0


def jobs(rig: Rig, sizes: Sizes, run: Run) -> list[Figure]:
    """Every accepted job has one result and one usage record."""
    accepted = {number for part in run.accepted.ids for number in part.numbers}
    copies: Counter[int] = Counter()
    results: Counter[int] = Counter()
    receipts: Counter[int] = Counter()
    failed = 0
    for number, outcome, has_receipt in rig.query(_JOBS, mark=MARK):
        copies[int(number)] += 1
        results[int(number)] += outcome is not None
        receipts[int(number)] += has_receipt
        failed += outcome == "failed"
    return [
        exactly("jobs accepted", len(accepted), sizes.jobs),
        Figure("requests sent again by the customers", run.accepted.sent_again),
        none("requests refused", len(run.accepted.refused)),
        none("accepted jobs that are not stored", sum(copies[number] == 0 for number in accepted)),
        none("jobs stored more than once", sum(number > 1 for number in copies.values())),
        none("accepted jobs without a result (lost)", sum(results[number] == 0 for number in accepted)),
        none("jobs with more than one result (double)", sum(number > 1 for number in results.values())),
        none("accepted jobs without exactly one usage record", sum(receipts[number] != 1 for number in accepted)),
        none("jobs that failed", failed),
    ]


def calls(rig: Rig, run: Run) -> list[Figure]:
    """The provider was asked once for each job, but for what it failed and what was in the hands of a killed worker."""
    counted = rig.calls()
    failed = sum(counted["by_fault"].values())
    extra = counted["started"] - counted["distinct_bodies"]
    unexplained = rig.answered_again() - run.exposed.bodies
    return [
        Figure("provider calls", counted["started"]),
        Figure("calls beyond one for each job", extra),
        Figure("of these failed by the provider", failed),
        Figure("of these made again after a kill", extra - failed, most=run.exposed.calls),
        none("bodies answered twice that no killed worker held", len(unexplained)),
    ]


def sums(rig: Rig) -> list[Figure]:
    """Counters are sums, what was held is let go, and nothing is left behind."""
    return [none(name, int(rig.query(statement)[0][0])) for name, statement in _WRONG]


def doctor(rig: Rig) -> list[Figure]:
    """The operator's own look at all invariants."""
    return [none("exit status of the doctor", rig.command("doctor"))]


def times(sizes: Sizes, alone: Run | None, run: Run) -> list[Figure]:
    """What was done, and whether it ended in time."""
    figures = [Figure(f"times: {name}", times) for name, times in sorted(run.done.items())]
    figures.append(none("disturbances that found no more work", run.left))
    figures.append(Figure("outages", run.outage_seconds, unit="s"))
    if alone is None:
        return [*figures, Figure("disturbed run", run.seconds, unit="s")]
    most = ASKED_RATIO * alone.seconds + run.outage_seconds + LEASE_AND_SWEEP_SECONDS
    return [
        *figures,
        Figure("undisturbed run", alone.seconds, unit="s"),
        Figure("disturbed run", run.seconds, most=most, unit="s"),
    ]


_JOBS: LiteralString = """
    SELECT substring(convert_from(j.body, 'UTF8') FROM %(mark)s), r.outcome, u.seq IS NOT NULL
    FROM jobs j LEFT JOIN results r USING (batch_id, seq) LEFT JOIN usage_records u USING (batch_id, seq)
"""

_WRONG: tuple[tuple[str, LiteralString], ...] = (
    (
        "batches whose counters are not the sums of their results and receipts",
        """
        SELECT count(*) FROM (
            SELECT b.total, b.succeeded, b.failed, b.cancelled, b.expired, b.prompt_tokens, b.cached_tokens,
                b.completion_tokens, b.cost, count(*) FILTER (WHERE r.outcome = 'succeeded') AS succeeded_rows,
                count(*) FILTER (WHERE r.outcome = 'failed') AS failed_rows, count(r.seq) AS rows,
                coalesce(sum(u.prompt_tokens), 0) AS prompts, coalesce(sum(u.cached_tokens), 0) AS cached,
                coalesce(sum(u.completion_tokens), 0) AS completions, coalesce(sum(u.cost), 0) AS costs
            FROM batches b LEFT JOIN results r ON r.batch_id = b.id
            LEFT JOIN usage_records u ON u.batch_id = r.batch_id AND u.seq = r.seq GROUP BY b.id
        ) AS s
        WHERE (s.total, s.succeeded, s.failed, s.cancelled + s.expired, s.prompt_tokens, s.cached_tokens,
                s.completion_tokens, s.cost)
            IS DISTINCT FROM (s.rows, s.succeeded_rows, s.failed_rows, 0, s.prompts, s.cached, s.completions, s.costs)
        """,
    ),
    (
        "quotas whose use is not the sum of their receipts",
        """
        SELECT count(*) FROM quotas q, LATERAL (
            SELECT coalesce(sum(u.prompt_tokens + u.completion_tokens), 0) AS used, coalesce(sum(u.cost), 0) AS cost
            FROM usage_records u JOIN batches b ON b.id = u.batch_id
            WHERE b.account_id = q.account_id AND b.period_start = q.period_start
        ) AS s WHERE (q.used, q.cost_used) IS DISTINCT FROM (s.used, s.cost)
        """,
    ),
    (
        "quotas that still hold something",
        "SELECT count(*) FROM quotas WHERE reserved <> 0 OR cost_reserved <> 0",
    ),
    ("claims left behind", "SELECT count(*) FROM claims"),
)
