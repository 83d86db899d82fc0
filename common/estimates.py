"""What a batch would be: its errors, its size, what it may cost and how long it may take. Nothing is stored."""

from dataclasses import dataclass
from uuid import UUID

import msgspec
from sqlalchemy import text

from common.database import as_account
from common.errors import LineError
from common.input_rows import JobRow
from common.intake import Intake, Rejected
from common.prices import price_of

# About what English text has. The provider counts exactly, and its count is what is billed.
BYTES_PER_TOKEN = 4
# What stands in for the longest answer of a request that sets no bound.
ASSUMED_MAX_OUTPUT_TOKENS = 4_096
# No model writes more at once; a larger bound is a slip.
MAX_OUTPUT_TOKENS = 1_000_000


class _Body(msgspec.Struct):
    model: str
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(slots=True)
class ModelShare:
    """What a batch asks of one model. Costs are nano-dollars, None where the model has no known price: the prompts
    alone, and with every answer as long as it may get."""

    rows: int = 0
    prompt_tokens: int = 0
    max_output_tokens: int = 0
    rows_without_bound: int = 0
    min_cost: int | None = None
    max_cost: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """`rows` counts those that would run and `failing_rows` those that would fail alone. `seconds` is None where the
    account has no batch behind it to go by."""

    rows: int
    failing_rows: int
    errors: list[LineError]
    error_counts: dict[str, int]
    models: dict[str, ModelShare]
    seconds: float | None
    rows_ahead: int
    rows_per_second: float | None


def estimate(account_id: UUID, intake: Intake, endpoint: str) -> Estimate:
    """Reads the input once, as ingest would."""
    shares: dict[str, ModelShare] = {}
    failing = 0
    errors: list[LineError] = []
    counts: dict[str, int] = {}
    for _, row in intake.rows():
        if isinstance(row, JobRow):
            _add(shares, row.body, endpoint)
    try:
        # A repeated row counts among the tokens: it costs nothing to be high there.
        failing = sum(1 for _ in intake.failing_rows())
    except Rejected as rejected:
        errors, counts = rejected.errors, dict(rejected.counts)
    for model, share in shares.items():
        if (price := price_of(model)) is not None:
            share.min_cost = price.cost(share.prompt_tokens, 0, 0)
            share.max_cost = price.cost(share.prompt_tokens, 0, share.max_output_tokens)
    rows = intake.total - failing
    ahead, speed = _speed(account_id)
    seconds = (ahead + rows) / speed if speed else None
    return Estimate(rows, failing, errors, counts, shares, seconds, ahead, speed)


def _add(shares: dict[str, ModelShare], body: bytes, endpoint: str) -> None:
    try:
        asked = _decode(body)
    except (ValueError, RecursionError):
        # Valid all the same, but with a bound that is no number: the provider refuses it, at no cost.
        return
    share = shares.setdefault(asked.model, ModelShare())
    share.rows += 1
    share.prompt_tokens += -(-len(body) // BYTES_PER_TOKEN)
    if endpoint == "/v1/embeddings":
        return
    bound = asked.max_completion_tokens or asked.max_output_tokens or asked.max_tokens
    if bound is None or bound < 0:
        share.rows_without_bound += 1
        bound = ASSUMED_MAX_OUTPUT_TOKENS
    share.max_output_tokens += min(bound, MAX_OUTPUT_TOKENS) * max(1, min(asked.n or 1, 128))


def _speed(account_id: UUID) -> tuple[int, float | None]:
    """The account's rows that are pending, and the rows a second of its latest batches."""
    with as_account(account_id) as connection:
        row = connection.execute(_SPEED, {"account_id": account_id}).one()
    return int(row.ahead), float(row.rows / row.seconds) if row.rows and row.seconds else None


_SPEED = text("""
    WITH latest AS (
        SELECT total AS rows, extract(epoch FROM ended_at - started_at) AS seconds FROM batches
        WHERE account_id = :account_id AND kind <> 'single' AND state = 'completed' AND started_at IS NOT NULL
        ORDER BY id DESC LIMIT 5
    )
    SELECT sum(rows) AS rows, sum(seconds) AS seconds, (
        SELECT coalesce(sum(total - succeeded - failed - cancelled - expired), 0) FROM batches
        WHERE account_id = :account_id AND kind <> 'single' AND state = 'in_progress'
    ) AS ahead
    FROM latest
""")
