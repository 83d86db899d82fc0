"""Who is served next: the account of a plan with the least virtual time, and the batches of it whose turn it is.

The cost depends on how many accounts wait, not on how many jobs. docs/fairness.md has the rules.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection

from common.database import driver_as_owner, named
from common.plans import plans, with_overrides

# Of an account while a model is congested: looking further would hold up the plan's other claims.
LOOKED_AT_BATCHES = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which work: single jobs alone, or all; and none of the models that are `congested`."""

    singles: bool = False
    congested: Collection[str] = ()


def plans_with_singles() -> Sequence[str]:
    """The plans in which single jobs wait. Costs what the batches that wait cost, whatever rows they have."""
    with driver_as_owner() as connection:
        return [row.plan for row in named(connection, _PLANS_WITH_SINGLES, {"plans": list(plans())})]


def next_account(connection: Connection, plan: str, clock: float, rows: int, wanted: Wanted) -> tuple[Any, int, bool]:
    """The fairest account that may have more jobs running, how many of `rows` it may, and whether one before it may
    not."""
    full: list[UUID] = []
    statement = _NEXT_ACCOUNT[wanted.singles, bool(wanted.congested)]
    while True:
        parameters: dict[str, Any] = {"plan": plan, "clock": clock, "full": full} | _beside(wanted)
        account = named(connection, statement, parameters).fetchone()
        if account is None:
            return None, 0, bool(full)
        room = with_overrides(plan, account.overrides).max_running_jobs - account.running
        if room > 0:
            return account, min(rows, room), bool(full)
        full.append(account.id)


def candidates(connection: Connection, plan: str, account_id: UUID, rows: int, wanted: Wanted) -> Sequence[Any]:
    """Batches of the account that may be claimed of, at most as many as rows: its single jobs in the order they came,
    then the others, the one served longest ago first."""
    statement = _CANDIDATES[wanted.singles, bool(wanted.congested)]
    parameters: dict[str, Any] = {"plan": plan, "account_id": account_id, "rows": rows} | _beside(wanted)
    return named(connection, statement, parameters).fetchall()


def _beside(wanted: Wanted) -> dict[str, Any]:
    if not wanted.congested:
        return {}
    return {"congested": list(wanted.congested), "looked_at": LOOKED_AT_BATCHES}


CLAIMABLE: LiteralString = "state = 'in_progress' AND (cursor < total OR returned > 0) AND NOT held_back"
_SINGLE: LiteralString = f"{CLAIMABLE} AND kind = 'single'"
_OF: dict[bool, LiteralString] = {False: CLAIMABLE, True: _SINGLE}

_PLANS_WITH_SINGLES: LiteralString = f"""
    SELECT known.plan FROM unnest(%(plans)s::text[]) AS known (plan)
    WHERE EXISTS (SELECT 1 FROM batches b WHERE b.plan = known.plan AND {_SINGLE})
"""

# A skip scan: one index probe for each account that waits, however many jobs it has.
_WAITING: LiteralString = """
    WITH RECURSIVE waiting AS (
        (SELECT account_id FROM batches WHERE plan = %(plan)s AND {wanted} ORDER BY account_id LIMIT 1)
        UNION ALL
        SELECT (SELECT b.account_id FROM batches b
                WHERE b.plan = %(plan)s AND b.account_id > waiting.account_id AND {wanted}
                ORDER BY b.account_id LIMIT 1)
        FROM waiting WHERE waiting.account_id IS NOT NULL
    )
    SELECT a.id, a.virtual_time, CAST(a.overrides AS text) AS overrides, (
        SELECT coalesce(sum(c.pending), 0) FROM claims c WHERE c.account_id = a.id AND c.state = 'leased'
    ) AS running
    FROM waiting JOIN accounts a ON a.id = waiting.account_id WHERE a.id <> ALL(%(full)s::uuid[])
"""
_LEAST_TIME: LiteralString = "ORDER BY greatest(a.virtual_time, %(clock)s), a.virtual_time, a.id LIMIT 1"

_COLUMNS: LiteralString = "id, kind, cursor, total, returned, max_cost"
_COLUMNS_TO_CHOOSE_BY: LiteralString = f"{_COLUMNS}, model, served_at"
_FIRST: LiteralString = """
    SELECT {columns} FROM batches
    WHERE plan = %(plan)s AND account_id = {account} AND {wanted}
    ORDER BY (kind <> 'single'), served_at, id LIMIT {limit}
"""

# Of each account a bounded number is looked at, so that its own jobs for a congested model may hide others of its own,
# and never another account's.
_NOT_CONGESTED: LiteralString = "(first.model IS NULL OR first.model <> ALL(%(congested)s::text[]))"


def _next_account_sql(wanted: LiteralString, *, beside: bool) -> LiteralString:
    waiting = _WAITING.format(wanted=wanted)
    if beside:
        first = _FIRST.format(columns="model", account="a.id", wanted=wanted, limit="%(looked_at)s")
        waiting += f" AND EXISTS (SELECT 1 FROM ({first}) AS first WHERE {_NOT_CONGESTED})"
    return f"{waiting} {_LEAST_TIME}"


def _candidates_sql(wanted: LiteralString, *, beside: bool) -> LiteralString:
    if not beside:
        return _FIRST.format(columns=_COLUMNS, account="%(account_id)s", wanted=wanted, limit="%(rows)s")
    columns = _COLUMNS_TO_CHOOSE_BY
    first = _FIRST.format(columns=columns, account="%(account_id)s", wanted=wanted, limit="%(looked_at)s")
    return (
        f"SELECT {_COLUMNS} FROM ({first}) AS first WHERE {_NOT_CONGESTED}"
        " ORDER BY (kind <> 'single'), served_at, id LIMIT %(rows)s"
    )


# By what is wanted: single jobs alone, beside congested models.
_KINDS = [(singles, beside) for singles in (False, True) for beside in (False, True)]
_NEXT_ACCOUNT = {kind: _next_account_sql(_OF[kind[0]], beside=kind[1]) for kind in _KINDS}
_CANDIDATES = {kind: _candidates_sql(_OF[kind[0]], beside=kind[1]) for kind in _KINDS}
