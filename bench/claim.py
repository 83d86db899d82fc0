"""Claims from a backlog of a million jobs against claims from one of a thousand, taken in turns."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg

from bench.figures import Figure, milliseconds
from bench.rig import scaled, tell
from common import accounts, keys
from local.stack import Stack
from tests import databases
from tests.process_settings import process_settings
from worker import claims

SMALL, LARGE = 1_000, 1_000_000
CLAIM_ROWS = 256
ASKED_RATIO = 1.2
ROUNDS = 12
CLAIMS_A_ROUND = 30
# After a change of database its connection is new, and the server plans each statement anew.
WARM_UP_CLAIMS = 10
PLAN = "team"


def claim() -> list[Figure]:
    """Each backlog has a database of its own, so that tables and indexes too have the size that is said."""
    with tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder, ExitStack() as opened:
        # Not durable: waiting for the disk would take most of the time of both, and hide what differs.
        services = opened.enter_context(Stack.services_only(Path(folder) / "home"))
        services.migrate()
        backlogs = {rows: services.env | opened.enter_context(databases.cloned(services)) for rows in _sizes()}
        seconds: dict[int, list[float]] = {rows: [] for rows in backlogs}
        for rows, env in backlogs.items():
            _fill(env, rows)
        for _ in range(ROUNDS):
            for rows, env in backlogs.items():
                seconds[rows] += _round(env)
    small, large = _sizes()
    tell(f"  {len(seconds[large])} claims from each")
    return [
        Figure(
            f"claim: {CLAIM_ROWS} rows, median, {large:,} pending against {small:,}",
            milliseconds(seconds[large]),
            "ms",
            baseline=milliseconds(seconds[small]),
            ratio_at_most=ASKED_RATIO,
        )
    ]


def _sizes() -> tuple[int, int]:
    return SMALL, scaled(LARGE)


def _fill(env: Mapping[str, str], rows: int) -> None:
    """One batch of so many jobs that wait to be claimed."""
    with process_settings(env), psycopg.connect(env["DATABASE_URL"], autocommit=True) as database:
        caller = keys.authenticate(keys.create(accounts.create("Ann", PLAN).id, "bench"))
        parameters = {"id": uuid4(), "account": caller.account_id, "key": caller.key_id, "plan": PLAN, "rows": rows}
        for statement in (_JOBS, _BATCH):
            database.execute(statement, parameters)
        database.execute("VACUUM (ANALYZE)")
        database.execute("CHECKPOINT")


def _round(env: Mapping[str, str]) -> list[float]:
    """The seconds of some claims. Each is over before the next, and when fewer rows are left than one takes, the
    backlog is whole again."""
    seconds = []
    with process_settings(env), psycopg.connect(env["DATABASE_URL"], autocommit=True) as database:
        for number in range(WARM_UP_CLAIMS + CLAIMS_A_ROUND):
            began = time.perf_counter()
            taken = claims.take(PLAN, CLAIM_ROWS, "bench").claims
            ended = time.perf_counter()
            if sum(len(claim.jobs) for claim in taken) != CLAIM_ROWS:
                raise RuntimeError(
                    f"a claim is of {[len(claim.jobs) for claim in taken]} rows, and not of {CLAIM_ROWS}"
                )
            if number >= WARM_UP_CLAIMS:
                seconds.append(ended - began)
            database.execute("DELETE FROM claims")
            database.execute(_WHOLE_AGAIN, {"claim_rows": CLAIM_ROWS})
    return seconds


_JOBS: LiteralString = """
    INSERT INTO jobs (batch_id, seq, account_id, custom_id, body)
    SELECT %(id)s, seq, %(account)s, 'request-' || seq, convert_to(format(
        '{"model":"sim","messages":[{"role":"user","content":"%%s"}]}', repeat(md5(seq::text), 10)), 'UTF8')
    FROM generate_series(0, %(rows)s - 1) AS seq
"""

_BATCH: LiteralString = """
    INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, state, total, in_progress_at)
    VALUES (%(id)s, %(account)s, %(key)s, %(plan)s, 'jsonl', '/v1/chat/completions', 'in_progress', %(rows)s, now())
"""

_WHOLE_AGAIN: LiteralString = "UPDATE batches SET cursor = 0 WHERE cursor + %(claim_rows)s > total"
