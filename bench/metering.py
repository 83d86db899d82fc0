"""The rollup over a million receipts of Stripe's whole window, against the bare sum of the same by account and hour."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import LiteralString

import psycopg

from bench.figures import Figure
from bench.rig import scaled, tell
from common import metering
from local.stack import Stack
from tests.metering import metered
from tests.process_settings import process_settings

RECEIPTS = 1_000_000
ACCOUNTS = 100
ROUNDS = 5
ASKED_RATIO = 3.0


def rollup() -> list[Figure]:
    """The first pass writes all portions, the others find that nothing is missing: one a day over the whole window,
    and those of every two minutes over six hours."""
    with (
        tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder,
        # Not durable: what is measured is reading.
        Stack.services_only(Path(folder) / "home") as services,
    ):
        services.migrate()
        env = services.env | {"STORAGE_URL": Path(folder).as_uri(), "SECRET_KEY": "x" * 32, "PROVIDER_API_KEY": "none"}
        with process_settings(env), psycopg.connect(env["DATABASE_URL"], autocommit=True) as database:
            _fill(database)
            first = _seconds(database, whole=True)
            whole = [_seconds(database, whole=True) for _ in range(ROUNDS)]
            lately = [_seconds(database, whole=False) for _ in range(ROUNDS)]
            bare = [_bare(database) for _ in range(ROUNDS)]
            portions = database.execute("SELECT count(*) FROM meter_outbox").fetchone()
    tell(f"  {portions[0] if portions else 0:,} portions")
    of = f"of {scaled(RECEIPTS):,} receipts, {ACCOUNTS} accounts"
    return [
        Figure(f"rollup: first pass {of}", first, "s"),
        Figure(f"rollup: a day's pass {of}", median(whole), "s", baseline=median(bare), ratio_at_most=ASKED_RATIO),
        Figure("rollup: a pass of every two minutes", 1_000 * median(lately), "ms"),
    ]


def _fill(database: psycopg.Connection) -> None:
    accounts = [metered(database) for _ in range(ACCOUNTS)]
    database.execute(_RECEIPTS, {"accounts": accounts, "receipts": scaled(RECEIPTS)})
    database.execute("VACUUM (ANALYZE)")


def _seconds(database: psycopg.Connection, *, whole: bool) -> float:
    """Of one pass."""
    database.execute("UPDATE metering SET looked_back_at = CASE WHEN %s THEN NULL ELSE now() END", [whole])
    began = time.perf_counter()
    metering.roll_up()
    return time.perf_counter() - began


def _bare(database: psycopg.Connection) -> float:
    began = time.perf_counter()
    database.execute(_SUM).fetchall()
    return time.perf_counter() - began


# Over 34 days until now; written in the order of time, as they are.
_RECEIPTS: LiteralString = """
    INSERT INTO usage_records (batch_id, seq, account_id, api_key_id, model, provider, prompt_tokens, cached_tokens,
        completion_tokens, created_at)
    SELECT uuidv7(), 0, (%(accounts)s::uuid[])[1 + n %% array_length(%(accounts)s::uuid[], 1)], uuidv7(), 'sim', 'test',
        1000 + n %% 777, 0, n %% 99, now() - interval '34 days' * (1 - n / %(receipts)s::float)
    FROM generate_series(1, %(receipts)s) AS n
"""

_SUM: LiteralString = """
    SELECT account_id, date_trunc('hour', created_at, 'UTC'), sum(prompt_tokens::bigint + completion_tokens)
    FROM usage_records WHERE created_at >= now() - interval '34.5 days' GROUP BY 1, 2
"""
