"""What a batch would be: its errors, its size, what it may cost and how long it may take. Nothing is stored."""

from dataclasses import dataclass, field
from uuid import UUID

import msgspec
from sqlalchemy import text

from common import quotas
from common.database import as_account
from common.errors import LineError
from common.input_rows import JobRow
from common.intake import Intake, Rejected
from common.keys import Caller
from common.prices import highest_price_of
from common.reservations import BYTES_PER_PROMPT_TOKEN, exposure
from common.shared_thread import in_native_thread

# About what English text has: likelier than the bound that tokens are held by. The provider counts exactly, and its
# count is what is billed.
BYTES_PER_TOKEN = 4


class _Body(msgspec.Struct):
    model: str


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(slots=True)
class ModelShare:
    """What a batch asks of one model. Costs are nano-dollars, None where the model has no known price: the prompts
    alone, and with every answer as long as it may get."""

    rows: int = 0
    prompt_tokens: int = 0
    max_output_tokens: int = 0
    min_cost: int | None = None
    max_cost: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """`rows` counts those that would run and `failing_rows` those that would fail alone. `reserved_tokens` and
    `reserved_cost` would be held at admission, and `refused_by` is the code of the limit that has no room for them now.
    `seconds` is None where the account has no batch behind it to go by."""

    rows: int
    failing_rows: int
    errors: list[LineError]
    error_counts: dict[str, int]
    models: dict[str, ModelShare]
    reserved_tokens: int
    reserved_cost: int
    refused_by: str | None
    seconds: float | None
    rows_ahead: int
    rows_per_second: float | None


@dataclass(slots=True)
class _Read:
    """What an input has, before anything is known of the account's other work."""

    rows: int = 0
    failing_rows: int = 0
    errors: list[LineError] = field(default_factory=list)
    error_counts: dict[str, int] = field(default_factory=dict)
    models: dict[str, ModelShare] = field(default_factory=dict)
    tokens: int = 0
    cost: int = 0


def estimate(caller: Caller, intake: Intake, max_cost: int | None = None) -> Estimate:
    """Reads the input once, as ingest would."""
    read = in_native_thread(_read, intake)
    ahead, speed = _speed(caller.account_id)
    refused_by = None
    if not read.error_counts:
        refused_by = quotas.refused_by(caller.allowance, read.tokens, exposure(read.cost, 0, max_cost))
    return Estimate(
        rows=read.rows,
        failing_rows=read.failing_rows,
        errors=read.errors,
        error_counts=read.error_counts,
        models=read.models,
        reserved_tokens=read.tokens,
        reserved_cost=read.cost,
        refused_by=refused_by,
        seconds=(ahead + read.rows) / speed if speed else None,
        rows_ahead=ahead,
        rows_per_second=speed,
    )


def _read(intake: Intake) -> _Read:
    found = _Read()
    for _, row in intake.rows():
        if isinstance(row, JobRow):
            _add(found.models, row)
            found.tokens += row.tokens
            found.cost += row.cost
    try:
        # A repeated row counts among the models' tokens: it costs nothing to be high there.
        for _, row in intake.failing_rows():
            found.failing_rows += 1
            found.tokens -= row.tokens
            found.cost -= row.cost
    except Rejected as rejected:
        found.errors, found.error_counts = rejected.errors, dict(rejected.counts)
    for model, share in found.models.items():
        if (price := highest_price_of(model)) is not None:
            share.min_cost = price.cost(share.prompt_tokens, 0, 0)
            share.max_cost = price.cost(share.prompt_tokens, 0, share.max_output_tokens)
    found.rows = intake.total - found.failing_rows
    return found


def _add(shares: dict[str, ModelShare], row: JobRow) -> None:
    share = shares.setdefault(_decode(row.body).model, ModelShare())
    share.rows += 1
    share.prompt_tokens += -(-len(row.body) // BYTES_PER_TOKEN)
    share.max_output_tokens += row.tokens - len(row.body) // BYTES_PER_PROMPT_TOKEN


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
