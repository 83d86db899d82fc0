"""What must be true of the database at every moment, checked by reading alone.

Each check returns findings: one for whatever is off, none where all is well. All of them look at one snapshot, so that
work in progress disturbs no check, and no check disturbs the work: a transaction writes a result together with all that
follows from it, and a snapshot holds it whole or not at all.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids
from common.database import owner_engine
from common.output_lines import line

PAGE_BATCHES = 1_000
ENDED = ("completed", "failed", "cancelled", "expired")
OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
SUMS = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is off: `check` is the invariant, `subject` what it is off of."""

    check: str
    subject: str
    problem: str

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: {self.problem}"


@contextmanager
def snapshot() -> Iterator[Connection]:
    """A connection that sees the database as it is now for as long as it is open, and can write nothing. While it is
    open PostgreSQL keeps the old versions of rows."""
    with owner_engine().connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        # Compiling a statement would take longer than most of them run.
        connection.execute(text("SET LOCAL jit = off"))
        yield connection


def batch_pages(connection: Connection) -> Iterator[list[UUID]]:
    """The ids of all batches, single jobs too, some at a time."""
    after = UUID(int=0)
    while page := list(connection.execute(_PAGE, {"after": after, "limit": PAGE_BATCHES}).scalars()):
        yield page
        after = page[-1]


def of_batches(connection: Connection, batch_ids: Sequence[UUID]) -> list[Finding]:
    """Results, receipts, counters, holds and claims of these batches."""
    rows = connection.execute(_BATCHES, {"ids": list(batch_ids)})
    return [finding for batch in rows for finding in _of_batch(batch)]


def _of_batch(batch: Any) -> Iterator[Finding]:
    subject = ids.show("batch_", batch.id)
    if not batch.fading:
        for problem in _results(batch):
            yield Finding("results", subject, problem)
        if batch.receipts_missing:
            yield Finding("usage", subject, f"{batch.receipts_missing} succeeded rows have no usage record")
        if batch.receipts_alone:
            yield Finding("usage", subject, f"{batch.receipts_alone} usage records are of no billable result")
        if not batch.retrying and (batch.reserved_tokens, batch.reserved_cost) != (batch.open_tokens, batch.open_cost):
            yield Finding(
                "reservations",
                subject,
                f"holds {batch.reserved_tokens} tokens and {batch.reserved_cost} nano-dollars; its rows without a"
                f" result hold {batch.open_tokens} and {batch.open_cost}",
            )
    elif batch.reserved_tokens or batch.reserved_cost:
        yield Finding("reservations", subject, f"has ended and holds {batch.reserved_tokens} tokens")
    for name in SUMS:
        counter, summed = getattr(batch, name), getattr(batch, f"summed_{name}")
        if counter != summed:
            yield Finding("counters", subject, f"{name} is {counter}; its usage records come to {summed}")
    if batch.foreign:
        yield Finding("accounts", subject, f"{batch.foreign} of its rows are another account's")
    if batch.returned != batch.returned_rows:
        yield Finding(
            "claims", subject, f"returned is {batch.returned}; its returned claims have {batch.returned_rows}"
        )


def _results(batch: Any) -> Iterator[str]:
    if batch.jobs != batch.total:
        yield f"total is {batch.total}; it has {batch.jobs} rows"
    if batch.outside:
        yield f"{batch.outside} results are of rows that it does not have"
    for name in OUTCOMES:
        counter, counted = getattr(batch, name), getattr(batch, f"counted_{name}")
        if counter != counted:
            yield f"{name} is {counter}; {counted} results are so"
    if batch.state in ENDED:
        if batch.results != batch.total:
            yield f"is {batch.state} with {batch.results} results of {batch.total} rows"
    elif batch.state != "validating":
        # Of the rows never claimed some have their result from the ingest.
        unclaimed = batch.total - batch.cursor - batch.results_ahead
        if batch.results + batch.claimed_rows + unclaimed != batch.total:
            yield (
                f"{batch.results} results, {batch.claimed_rows} rows under claims and {unclaimed} never claimed are not"
                f" its {batch.total} rows"
            )
        if not batch.retrying and batch.results == batch.total:
            yield f"is {batch.state} and every row has its result"


def file_sizes(connection: Connection, batch_ids: Sequence[UUID]) -> list[Finding]:
    """The sizes of the output and error files of these batches. Reads every result."""
    found = []
    for batch in connection.execute(_SIZES, {"ids": list(batch_ids)}).all():
        sizes = {"output_bytes": 0, "error_bytes": 0}
        rows = connection.execute(_LINES, {"batch_id": batch.id}, execution_options={"yield_per": 500})
        for outcome, *fields in rows:
            sizes["output_bytes" if outcome == "succeeded" else "error_bytes"] += len(line(batch.id, *fields))
        for name, size in sizes.items():
            if getattr(batch, name) != size:
                problem = f"{name} is {getattr(batch, name)}; the lines come to {size}"
                found.append(Finding("files", ids.show("batch_", batch.id), problem))
    return found


_PAGE = text("SELECT id FROM batches WHERE id > :after ORDER BY id LIMIT :limit")

# Once its results may be deleted, a batch has only its receipts. Rows of a batch that ended hold nothing, so that only
# those of open batches are looked up. A retry that has not begun holds for rows that have their old results still.
_BATCHES = text("""
    SELECT b.id, b.state, b.retrying, b.total, b.cursor, b.returned, b.succeeded, b.failed, b.cancelled, b.expired,
        b.prompt_tokens, b.cached_tokens, b.completion_tokens, b.cost, b.reserved_tokens, b.reserved_cost,
        coalesce(b.results_expire_at < clock_timestamp(), false) AS fading,
        j.jobs, r.*, u.*, c.*, coalesce(o.tokens, 0) AS open_tokens, coalesce(o.cost, 0) AS open_cost,
        r.foreign_results + u.foreign_receipts AS foreign
    FROM batches b, LATERAL (
        SELECT count(*) AS jobs FROM jobs WHERE batch_id = b.id
    ) AS j, LATERAL (
        SELECT count(*) AS results,
            count(*) FILTER (WHERE outcome = 'succeeded') AS counted_succeeded,
            count(*) FILTER (WHERE outcome = 'failed') AS counted_failed,
            count(*) FILTER (WHERE outcome = 'cancelled') AS counted_cancelled,
            count(*) FILTER (WHERE outcome = 'expired') AS counted_expired,
            count(*) FILTER (WHERE seq >= b.cursor) AS results_ahead,
            count(*) FILTER (WHERE seq NOT BETWEEN 0 AND b.total - 1) AS outside,
            count(*) FILTER (WHERE account_id <> b.account_id) AS foreign_results,
            count(*) FILTER (WHERE outcome = 'succeeded' AND NOT EXISTS (
                SELECT 1 FROM usage_records WHERE batch_id = results.batch_id AND seq = results.seq
            )) AS receipts_missing
        FROM results WHERE batch_id = b.id
    ) AS r, LATERAL (
        SELECT coalesce(sum(prompt_tokens), 0) AS summed_prompt_tokens,
            coalesce(sum(cached_tokens), 0) AS summed_cached_tokens,
            coalesce(sum(completion_tokens), 0) AS summed_completion_tokens,
            coalesce(sum(cost), 0) AS summed_cost,
            count(*) FILTER (WHERE account_id <> b.account_id) AS foreign_receipts,
            count(*) FILTER (WHERE NOT EXISTS (
                SELECT 1 FROM results WHERE batch_id = usage_records.batch_id AND seq = usage_records.seq
                    AND outcome IN ('succeeded', 'failed')
            )) AS receipts_alone
        FROM usage_records WHERE batch_id = b.id
    ) AS u, LATERAL (
        SELECT coalesce(sum(pending), 0) AS claimed_rows,
            coalesce(sum(pending) FILTER (WHERE state = 'returned'), 0) AS returned_rows
        FROM claims WHERE batch_id = b.id
    ) AS c LEFT JOIN LATERAL (
        SELECT sum(jobs.tokens) AS tokens, sum(jobs.cost) AS cost FROM jobs
        WHERE jobs.batch_id = b.id AND b.ended_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM results WHERE batch_id = jobs.batch_id AND seq = jobs.seq
        )
    ) AS o ON true
    WHERE b.id = ANY(:ids) ORDER BY b.id
""")

# Single jobs have no files.
_SIZES = text("""
    SELECT id, output_bytes, error_bytes FROM batches
    WHERE id = ANY(:ids) AND kind <> 'single' AND NOT coalesce(results_expire_at < clock_timestamp(), false)
""")

_LINES = text("""
    SELECT r.outcome, r.seq, j.custom_id, r.status_code, r.request_id, r.body, r.error_code, r.error_message
    FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.seq = r.seq WHERE r.batch_id = :batch_id
""")
