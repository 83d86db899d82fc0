"""Recording outcomes: results, their receipts and their batches' counters in one transaction, guarded by fences."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection, Cursor

from common import pauses, queue, quotas
from common.batch_states import finish
from common.database import driver_as_owner, named
from common.money import Price
from common.output_lines import line
from common.quotas import Change
from common.reservations import exposure
from common.sql_arrays import arrays
from worker.claims import LOCK_BATCHES, Claim, ClaimedJob


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
    with driver_as_owner() as connection:
        # Of this process, by which its outcomes have their times: PostgreSQL sees by it how wrong it is.
        clock = datetime.now(UTC)
        recorded = _insert_results(connection, outcomes, clock)
        if not recorded:
            return
        sums = _sums(recorded)
        # What needs no answer of its own waits for none: a caller may be waiting for an outcome.
        with connection.pipeline():
            _insert_usage(connection, [outcome for outcome in recorded if outcome.usage is not None], clock)
            _settle_claims(connection, recorded)
            # The hottest rows are locked last: the batches', then the accounts' quotas, then the platform's.
            counted = _count(connection, sums)
            finish(connection.execute, sums)
        settled = quotas.settle(connection, _changes(counted, sums))
    if settled.to_deliver:
        queue.announce_deliveries()
    for account_id in settled.capped:
        pauses.pause_account(account_id, "spend_cap")


def _insert_results(connection: Connection, outcomes: Sequence[Outcome], clock: datetime) -> list[Outcome]:
    """Writes results under their claims' fences, with the claims locked. Returns the outcomes that were written."""
    # A claim that was lost and taken again may be here under both its fences, and an outcome twice.
    wanted = list({(o.claim.key, o.seq): o for o in reversed(outcomes)}.values())
    columns: dict[str, list[Any]] = {
        "claim_ids": [o.claim.id for o in wanted],
        "fences": [o.claim.fence for o in wanted],
        "batch_ids": [o.claim.batch_id for o in wanted],
        "seqs": [o.seq for o in wanted],
        "account_ids": [o.claim.account_id for o in wanted],
        "kinds": [o.kind for o in wanted],
        "status_codes": [o.status_code for o in wanted],
        "error_codes": [o.error_code for o in wanted],
        "error_messages": [o.error_message for o in wanted],
        "attempts": [o.attempts for o in wanted],
        "providers": [o.provider for o in wanted],
        "request_ids": [o.request_id for o in wanted],
        "started_ats": [o.started_at for o in wanted],
        "finished_ats": [o.finished_at for o in wanted],
    }
    parameters = arrays(columns) | {"bodies": [o.body for o in wanted], "clock": clock}
    with connection.pipeline():
        # With it goes what begins the transaction.
        written = connection.execute(_INSERT_RESULTS, parameters)
    return [wanted[position - 1] for (position,) in written]


def _insert_usage(connection: Connection, outcomes: Sequence[Outcome], clock: datetime) -> None:
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
    connection.execute(_INSERT_USAGE, arrays(columns) | {"clock": clock})


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
    connection.execute(_SETTLE_CLAIMS, arrays(columns))


def _sums(recorded: Sequence[Outcome]) -> dict[UUID, Counter[str]]:
    """What outcomes add to their batches' counters, by batch in the order in which batches are locked."""
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
    return {batch_id: sums[batch_id] for batch_id in sorted(sums)}


def _count(connection: Connection, sums: Mapping[UUID, Counter[str]]) -> Cursor[Any]:
    columns: dict[str, list[Any]] = {"ids": list(sums)}
    if len(sums) > 1:
        connection.execute(LOCK_BATCHES, {"batch_ids": columns["ids"]})
    for name in _COUNTED:
        columns[name] = [batch[name] for batch in sums.values()]
    return named(connection, _COUNT, arrays(columns))


def _changes(counted: Iterable[Any], sums: Mapping[UUID, Counter[str]]) -> dict[tuple[UUID, datetime], Change]:
    """What outcomes change in their accounts' quotas; `counted` are their batches as they left them."""
    changes: dict[tuple[UUID, datetime], Change] = defaultdict(Change)
    for batch in counted:
        if batch.period_start is None:
            # It was admitted before there were quotas.
            continue
        added = sums[batch.id]
        change = changes[batch.account_id, batch.period_start]
        change.used += added["prompt"] + added["completion"]
        change.reserved += added["held_tokens"]
        change.cost_used += added["cost"]
        before = exposure(batch.reserved_cost + added["held_cost"], batch.cost - added["cost"], batch.max_cost)
        change.cost_reserved += before - exposure(batch.reserved_cost, batch.cost, batch.max_cost)
    return changes


# What a worker's clock lacks. Less than a second is the way here; more would put receipts into another hour or day.
_LACKS = """
    (SELECT CASE WHEN abs(extract(epoch FROM now() - c.told)) > 1 THEN now() - c.told ELSE interval '0' END
     FROM (VALUES (%(clock)s::timestamptz)) AS c (told))
"""

# The claims first, each under its fence: whoever lost one waits here for whoever has it now, or finds it gone.
_INSERT_RESULTS = f"""
    WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest(%(claim_ids)s::uuid[], %(fences)s::bigint[], %(batch_ids)s::uuid[], %(seqs)s::int[],
            %(account_ids)s::uuid[], %(kinds)s::text[], %(status_codes)s::smallint[], %(bodies)s::bytea[],
            %(error_codes)s::text[], %(error_messages)s::text[], %(attempts)s::smallint[], %(providers)s::text[],
            %(request_ids)s::text[], %(started_ats)s::timestamptz[], %(finished_ats)s::timestamptz[]) WITH ORDINALITY
            AS w (claim_id, fence, batch_id, seq, account_id, kind, status_code, body, error_code, error_message,
                attempts, provider, request_id, started_at, finished_at, position)
    ), live AS MATERIALIZED (
        SELECT c.id, c.fence FROM claims c
        WHERE (c.id, c.fence) IN (SELECT claim_id, fence FROM wanted) AND c.state = 'leased'
        ORDER BY c.id FOR UPDATE
    ), written AS (
        INSERT INTO results (batch_id, seq, account_id, outcome, status_code, body, error_code, error_message, attempts,
            provider, request_id, started_at, finished_at)
        SELECT w.batch_id, w.seq, w.account_id, w.kind, w.status_code, w.body, w.error_code, w.error_message,
            w.attempts, w.provider, w.request_id, w.started_at + {_LACKS}, w.finished_at + {_LACKS}
        FROM wanted w JOIN live ON live.id = w.claim_id AND live.fence = w.fence
        ON CONFLICT DO NOTHING RETURNING batch_id, seq
    )
    SELECT w.position FROM written r JOIN wanted w ON w.batch_id = r.batch_id AND w.seq = r.seq
        JOIN live ON live.id = w.claim_id AND live.fence = w.fence
"""

_INSERT_USAGE = f"""
    INSERT INTO usage_records (batch_id, seq, account_id, api_key_id, model, provider, prompt_tokens, cached_tokens,
        completion_tokens, prompt_price, cached_price, completion_price, cost, created_at)
    SELECT batch_id, seq, account_id, api_key_id, model, provider, prompt, cached, completion, prompt_price,
        cached_price, completion_price, cost, created_at + {_LACKS}
    FROM unnest(%(batch_ids)s::uuid[], %(seqs)s::int[], %(account_ids)s::uuid[], %(api_key_ids)s::uuid[],
        %(models)s::text[], %(providers)s::text[], %(prompts)s::int[], %(cacheds)s::int[], %(completions)s::int[],
        %(prompt_prices)s::bigint[], %(cached_prices)s::bigint[], %(completion_prices)s::bigint[], %(costs)s::bigint[],
        %(created_ats)s::timestamptz[]) AS u (batch_id, seq, account_id, api_key_id, model, provider, prompt, cached,
        completion, prompt_price, cached_price, completion_price, cost, created_at)
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
