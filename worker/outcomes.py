"""Recording outcomes: results, their receipts and their batches' counters in one transaction, guarded by fences."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection

from common import pauses, quotas
from common.batch_states import finish
from common.database import owner_engine
from common.output_lines import line
from common.prices import Price
from common.quotas import Change
from common.reservations import exposure
from common.sql_arrays import arrays
from worker.claims import Claim, ClaimedJob


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens a provider says it used. `cached_tokens` are part of `prompt_tokens`."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended. `usage` is None where nothing is billable."""

    claim: Claim
    job: ClaimedJob
    kind: Literal["succeeded", "failed", "cancelled", "expired"]
    status_code: int | None
    body: bytes | None
    error_code: str | None
    error_message: str | None
    attempts: int
    provider: str
    request_id: str | None
    started_at: datetime | None
    finished_at: datetime
    model: str = ""
    usage: TokenUsage | None = None
    price: Price | None = None

    @property
    def seq(self) -> int:
        return self.job.seq

    @property
    def claimed_cost(self) -> int:
        """What its claim counts it for, where a cap is watched."""
        return self.job.cost if self.claim.capped else 0

    @property
    def line_bytes(self) -> int:
        """The size of its line in the output or the error file of its batch."""
        return len(
            line(
                self.claim.batch_id, self.job.seq, self.job.custom_id, self.status_code, self.request_id, self.body,
                self.error_code, self.error_message,
            )
        )  # fmt: skip

    @property
    def cost(self) -> int | None:
        """Nano-dollars, or None where the price is unknown."""
        if self.usage is None or self.price is None:
            return None
        return self.price.cost(self.usage.prompt_tokens, self.usage.cached_tokens, self.usage.completion_tokens)


def record(outcomes: Sequence[Outcome]) -> None:
    """Writes these outcomes, each at most once. Those of a claim that is no longer this worker's are dropped: whoever
    holds it now will record its own. Safe to call again after a lost connection, whether or not it had committed."""
    with owner_engine().begin() as connection:
        live = _lock_claims(connection, outcomes)
        ours = [outcome for outcome in outcomes if (outcome.claim.id, outcome.claim.fence) in live]
        recorded = _insert_results(connection, ours)
        if not recorded:
            return
        _insert_usage(connection, [outcome for outcome in recorded if outcome.usage is not None])
        _settle_claims(connection, recorded)
        # The hottest rows are locked last: the batches', then the accounts' quotas, then the platform's.
        changes = _count(connection, recorded)
        finish(connection, {outcome.claim.batch_id for outcome in recorded})
        capped = quotas.settle(connection, changes)
    for account_id in capped:
        pauses.pause_account(account_id, "spend_cap")


def _lock_claims(connection: Connection, outcomes: Sequence[Outcome]) -> set[tuple[UUID, int]]:
    """The claims that are still held, each under its fence: one lost and taken again may be here under both."""
    held = list({(outcome.claim.id, outcome.claim.fence) for outcome in outcomes})
    columns: dict[str, list[Any]] = {
        "ids": [claim_id for claim_id, _ in held],
        "fences": [fence for _, fence in held],
    }
    return {(row[0], row[1]) for row in connection.exec_driver_sql(_LOCK_CLAIMS, arrays(columns))}


def _insert_results(connection: Connection, outcomes: Sequence[Outcome]) -> list[Outcome]:
    columns: dict[str, list[Any]] = {
        "batch_ids": [o.claim.batch_id for o in outcomes],
        "seqs": [o.seq for o in outcomes],
        "account_ids": [o.claim.account_id for o in outcomes],
        "kinds": [o.kind for o in outcomes],
        "status_codes": [o.status_code for o in outcomes],
        "error_codes": [o.error_code for o in outcomes],
        "error_messages": [o.error_message for o in outcomes],
        "attempts": [o.attempts for o in outcomes],
        "providers": [o.provider for o in outcomes],
        "request_ids": [o.request_id for o in outcomes],
        "started_ats": [o.started_at for o in outcomes],
        "finished_ats": [o.finished_at for o in outcomes],
    }
    # Of a row that is here twice the first is written, and the second conflicts with it.
    firsts = {(o.claim.batch_id, o.seq): o for o in reversed(outcomes)}
    parameters = arrays(columns) | {"bodies": [o.body for o in outcomes]}
    return [firsts[row[0], row[1]] for row in connection.exec_driver_sql(_INSERT_RESULTS, parameters)]


def _insert_usage(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    usages = [o.usage for o in outcomes if o.usage is not None]
    prices = [o.price for o in outcomes]
    columns: dict[str, list[Any]] = {
        "batch_ids": [o.claim.batch_id for o in outcomes],
        "seqs": [o.seq for o in outcomes],
        "account_ids": [o.claim.account_id for o in outcomes],
        "api_key_ids": [o.claim.api_key_id for o in outcomes],
        "models": [o.model for o in outcomes],
        "providers": [o.provider for o in outcomes],
        "prompts": [usage.prompt_tokens for usage in usages],
        "cacheds": [usage.cached_tokens for usage in usages],
        "completions": [usage.completion_tokens for usage in usages],
        "prompt_prices": [price and price.prompt for price in prices],
        "cached_prices": [price and price.cached for price in prices],
        "completion_prices": [price and price.completion for price in prices],
        "costs": [o.cost for o in outcomes],
        "created_ats": [o.finished_at for o in outcomes],
    }
    connection.exec_driver_sql(_INSERT_USAGE, arrays(columns))


def _settle_claims(connection: Connection, recorded: Sequence[Outcome]) -> None:
    counts: Counter[UUID] = Counter()
    costs: Counter[UUID] = Counter()
    for outcome in recorded:
        counts[outcome.claim.id] += 1
        costs[outcome.claim.id] += outcome.claimed_cost
    columns: dict[str, list[Any]] = {
        "ids": list(counts),
        "counts": list(counts.values()),
        "costs": [costs[claim_id] for claim_id in counts],
    }
    connection.exec_driver_sql(_SETTLE_CLAIMS, arrays(columns))


def _count(connection: Connection, recorded: Sequence[Outcome]) -> dict[tuple[UUID, datetime], Change]:
    """Adds outcomes to their batches' counters. Returns what they change in their accounts' quotas."""
    sums: dict[UUID, Counter[str]] = defaultdict(Counter)
    for outcome in recorded:
        batch = sums[outcome.claim.batch_id]
        batch[outcome.kind] += 1
        batch["held_tokens"] += outcome.job.tokens
        batch["held_cost"] += outcome.job.cost
        if not outcome.claim.single:
            batch["output_bytes" if outcome.kind == "succeeded" else "error_bytes"] += outcome.line_bytes
        if outcome.usage is not None:
            batch["prompt"] += outcome.usage.prompt_tokens
            batch["cached"] += outcome.usage.cached_tokens
            batch["completion"] += outcome.usage.completion_tokens
            batch["cost"] += outcome.cost or 0
    batch_ids = sorted(sums)
    if len(batch_ids) > 1:
        connection.exec_driver_sql(_LOCK_BATCHES, arrays({"ids": batch_ids}))
    columns: dict[str, list[Any]] = {"ids": batch_ids}
    for name in _COUNTED:
        columns[name] = [sums[batch_id][name] for batch_id in batch_ids]
    rows = connection.exec_driver_sql(_COUNT, arrays(columns)).all()
    changes: dict[tuple[UUID, datetime], Change] = defaultdict(Change)
    for row in rows:
        if row.period_start is None:
            # It was admitted before there were quotas.
            continue
        counted = sums[row.id]
        change = changes[row.account_id, row.period_start]
        change.used += counted["prompt"] + counted["completion"]
        change.reserved += counted["held_tokens"]
        change.cost_used += counted["cost"]
        # The row is as these outcomes left it.
        before = exposure(row.reserved_cost + counted["held_cost"], row.cost - counted["cost"], row.max_cost)
        change.cost_reserved += before - exposure(row.reserved_cost, row.cost, row.max_cost)
    return changes


_LOCK_CLAIMS = """
    SELECT c.id, c.fence FROM claims c
    JOIN unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS mine (id, fence) ON mine.id = c.id AND mine.fence = c.fence
    WHERE c.state = 'leased' ORDER BY c.id FOR UPDATE OF c
"""

_INSERT_RESULTS = """
    INSERT INTO results (batch_id, seq, account_id, outcome, status_code, body, error_code, error_message, attempts,
        provider, request_id, started_at, finished_at)
    SELECT * FROM unnest(%(batch_ids)s::uuid[], %(seqs)s::int[], %(account_ids)s::uuid[], %(kinds)s::text[],
        %(status_codes)s::smallint[], %(bodies)s::bytea[], %(error_codes)s::text[], %(error_messages)s::text[],
        %(attempts)s::smallint[], %(providers)s::text[], %(request_ids)s::text[], %(started_ats)s::timestamptz[],
        %(finished_ats)s::timestamptz[])
    ON CONFLICT DO NOTHING RETURNING batch_id, seq
"""

_INSERT_USAGE = """
    INSERT INTO usage_records (batch_id, seq, account_id, api_key_id, model, provider, prompt_tokens, cached_tokens,
        completion_tokens, prompt_price, cached_price, completion_price, cost, created_at)
    SELECT * FROM unnest(%(batch_ids)s::uuid[], %(seqs)s::int[], %(account_ids)s::uuid[], %(api_key_ids)s::uuid[],
        %(models)s::text[], %(providers)s::text[], %(prompts)s::int[], %(cacheds)s::int[], %(completions)s::int[],
        %(prompt_prices)s::bigint[], %(cached_prices)s::bigint[], %(completion_prices)s::bigint[], %(costs)s::bigint[],
        %(created_ats)s::timestamptz[])
"""

_SETTLE_CLAIMS = """
    WITH recorded AS (
        SELECT * FROM unnest(%(ids)s::uuid[], %(counts)s::int[], %(costs)s::bigint[]) AS n (id, rows, cost)
    ),
    ended AS (DELETE FROM claims c USING recorded n WHERE c.id = n.id AND c.pending = n.rows)
    UPDATE claims c SET pending = c.pending - n.rows, cost = c.cost - n.cost
    FROM recorded n WHERE c.id = n.id AND c.pending > n.rows
"""

_COUNTED = (
    "succeeded", "failed", "cancelled", "expired", "output_bytes", "error_bytes",
    "prompt", "cached", "completion", "cost", "held_tokens", "held_cost",
)  # fmt: skip

_LOCK_BATCHES = "SELECT 1 FROM batches WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE"

# The rate is an exponentially weighted average over ten seconds; exp() of less than -300 would underflow.
_COUNT = """
    UPDATE batches b SET
        succeeded = b.succeeded + n.succeeded, failed = b.failed + n.failed, cancelled = b.cancelled + n.cancelled,
        expired = b.expired + n.expired,
        output_bytes = b.output_bytes + n.output_bytes, error_bytes = b.error_bytes + n.error_bytes,
        prompt_tokens = b.prompt_tokens + n.prompt, cached_tokens = b.cached_tokens + n.cached,
        completion_tokens = b.completion_tokens + n.completion, cost = b.cost + n.cost,
        reserved_tokens = b.reserved_tokens - n.held_tokens, reserved_cost = b.reserved_cost - n.held_cost,
        held_back = false,
        rate = b.rate * exp(-least(300, greatest(0,
            coalesce(extract(epoch FROM clock_timestamp() - b.rate_at), 0)) / 10)::double precision)
            + (n.succeeded + n.failed + n.cancelled + n.expired) / 10.0,
        rate_at = clock_timestamp()
    FROM unnest(%(ids)s::uuid[], %(succeeded)s::int[], %(failed)s::int[], %(cancelled)s::int[], %(expired)s::int[],
        %(output_bytes)s::bigint[], %(error_bytes)s::bigint[], %(prompt)s::bigint[], %(cached)s::bigint[],
        %(completion)s::bigint[], %(cost)s::bigint[], %(held_tokens)s::bigint[], %(held_cost)s::bigint[])
        AS n (id, succeeded, failed, cancelled, expired, output_bytes, error_bytes, prompt, cached, completion, cost,
            held_tokens, held_cost)
    WHERE b.id = n.id
    RETURNING b.id, b.account_id, b.period_start, b.reserved_cost, b.cost, b.max_cost
"""
