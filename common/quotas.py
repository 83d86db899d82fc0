"""Quotas: an account's tokens and money in one billing period, used and held.

used + reserved never passes the limit at admission: the check and the hold are one UPDATE of the row. It is locked
after every batch that others may want too, and before the platform's row. What is held is let go, and what was used is
added, in the transaction that writes the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection as PsycopgConnection
from sqlalchemy import Connection, text

from common import usage_thresholds
from common.database import as_account, named
from common.errors import QuotaExceeded
from common.money import format_nano_dollars
from common.plans import Plan
from common.sql_arrays import arrays


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an account may hold and use in a billing period. `hard_cap` is nano-dollars."""

    account_id: UUID
    period_start: datetime
    period_end: datetime
    limits: Plan
    hard_cap: int | None

    def parameters(self, tokens: int, cost: int) -> dict[str, Any]:
        """What the admission of so much is asked for with."""
        return {
            "account_id": self.account_id,
            "period_start": self.period_start,
            "period_end": self.period_end,
            "tokens": tokens,
            "cost": cost,
            "tokens_per_month": self.limits.tokens_per_month,
            "max_queued_tokens": self.limits.max_queued_tokens,
            "hard_cap": self.hard_cap,
        }


@dataclass(slots=True)
class Change:
    """What results change in a quota: costs are nano-dollars. `reserved` and `cost_reserved` are let go."""

    used: int = 0
    reserved: int = 0
    cost_used: int = 0
    cost_reserved: int = 0


def reserve(connection: Connection, allowance: Allowance, tokens: int, cost: int) -> None:
    """Holds tokens and money. Raises QuotaExceeded, saying which limit has no room and when it will."""
    parameters = allowance.parameters(tokens, cost)
    if not connection.execute(_HOLD, parameters).scalar_one():
        ensure(connection, allowance)
        if not connection.execute(_HOLD, parameters).scalar_one():
            raise refusal(connection, allowance, tokens, cost)


def ensure(connection: Connection, allowance: Allowance) -> None:
    """The row of a period is made when it is first asked for."""
    connection.execute(_INSERT, allowance.parameters(0, 0))


def refusal(connection: Connection, allowance: Allowance, tokens: int, cost: int) -> QuotaExceeded:
    """Which limit has no room for that much."""
    row = connection.execute(_GET, allowance.parameters(tokens, cost)).one()
    limits = allowance.limits
    resets = allowance.period_end.strftime("%Y-%m-%d %H:%M UTC")
    if tokens and row.used + row.reserved + tokens > limits.tokens_per_month:
        left = max(0, limits.tokens_per_month - row.used - row.reserved)
        return QuotaExceeded(
            f"This needs {tokens:,} tokens at most, and {left:,} of the {limits.tokens_per_month:,} a month are left "
            f"({row.used:,} used, {row.reserved:,} held for jobs that have not ended). The next period begins at "
            f"{resets}; a lower bound of the answers (max_tokens) needs less.",
            code="quota_exceeded",
        )
    if allowance.hard_cap is not None and row.cost_used + row.cost_reserved + cost > allowance.hard_cap:
        used, reserved, cap, asked = map(
            format_nano_dollars, (row.cost_used, row.cost_reserved, allowance.hard_cap, cost)
        )
        return QuotaExceeded(
            f"This may cost ${asked}, and the account's cap of ${cap} a month has no room for it (${used} spent, "
            f"${reserved} held for jobs that have not ended). The next period begins at {resets}; the operator can "
            "raise the cap.",
            code="spend_cap_reached",
        )
    return QuotaExceeded(
        f"This needs {tokens:,} tokens at most; {row.queued:,} are held for jobs that have not ended, and the limit is "
        f"{limits.max_queued_tokens:,} at once: send it when some have ended.",
        code="queue_full",
    )


def refused_by(allowance: Allowance, tokens: int, cost: int) -> str | None:
    """The code of the limit that has no room for that much now; nothing is held."""
    with as_account(allowance.account_id) as connection:
        found = connection.begin_nested()
        try:
            reserve(connection, allowance, tokens, cost)
        except QuotaExceeded as refused:
            return refused.code
        finally:
            found.rollback()
    return None


def release(connection: Connection, account_id: UUID, period_start: datetime, tokens: int, cost: int) -> None:
    """Lets go of what was held."""
    parameters = {"account_id": account_id, "period_start": period_start, "tokens": tokens, "cost": cost}
    connection.execute(_RELEASE, parameters)


class Settled(NamedTuple):
    """`capped` are accounts whose spending of the current period has reached their hard cap: what is left over of an
    earlier period counts there, and stops nothing now. `to_deliver` says that the transaction wrote a delivery."""

    capped: list[UUID]
    to_deliver: bool


def settle(connection: PsycopgConnection, changes: Mapping[tuple[UUID, datetime], Change]) -> Settled:
    """Applies what results change, account and period by account and period, and adds it to what the platform spent. An
    account is told how much of its limits it has used by then, and a platform that comes to its cap is stopped."""
    if not changes:
        return Settled([], to_deliver=False)
    keys = sorted(changes)
    columns: dict[str, list[Any]] = {
        "account_ids": [account_id for account_id, _ in keys],
        "period_starts": [period_start for _, period_start in keys],
    }
    for name in ("used", "reserved", "cost_used", "cost_reserved"):
        columns[name] = [getattr(changes[key], name) for key in keys]
    parameters: dict[str, Any] = arrays(columns)
    if len(keys) > 1:
        connection.execute(_LOCK, parameters)
    parameters |= {"cost": sum(columns["cost_used"])} | usage_thresholds.of_plans()
    settled = named(connection, _SETTLE, parameters).fetchall()
    to_be_told = any(row.to_be_told for row in settled)
    if to_be_told:
        # By itself: now that the rows are locked, it sees a limit that changed while they were waited for.
        usage_thresholds.tell(connection, parameters)
    return Settled(
        [row.account_id for row in settled if row.capped], to_be_told or any(row.to_deliver for row in settled)
    )


_HOLD = text("""
    SELECT hold_quota(:account_id, :period_start, :tokens, :cost, :tokens_per_month, :max_queued_tokens,
        CAST(:hard_cap AS bigint))
""")

_INSERT = text("""
    INSERT INTO quotas (account_id, period_start, period_end) VALUES (:account_id, :period_start, :period_end)
    ON CONFLICT DO NOTHING
""")

_GET = text("""
    SELECT coalesce(sum(used) FILTER (WHERE period_start = :period_start), 0) AS used,
        coalesce(sum(reserved) FILTER (WHERE period_start = :period_start), 0) AS reserved,
        coalesce(sum(cost_used) FILTER (WHERE period_start = :period_start), 0) AS cost_used,
        coalesce(sum(cost_reserved) FILTER (WHERE period_start = :period_start), 0) AS cost_reserved,
        coalesce(sum(reserved), 0) AS queued
    FROM quotas WHERE account_id = :account_id
""")

_LOCK = """
    SELECT 1 FROM quotas q
    JOIN unnest(%(account_ids)s::uuid[], %(period_starts)s::timestamptz[]) AS n (account_id, period_start)
        ON q.account_id = n.account_id AND q.period_start = n.period_start
    ORDER BY q.account_id, q.period_start FOR UPDATE OF q
"""

_RELEASE = text("""
    UPDATE quotas SET reserved = reserved - :tokens, cost_reserved = cost_reserved - :cost
    WHERE account_id = :account_id AND period_start = :period_start
""")

_SETTLE = f"""
    WITH settled AS (
        UPDATE quotas q SET used = q.used + n.used, reserved = q.reserved - n.reserved,
            cost_used = q.cost_used + n.cost_used, cost_reserved = q.cost_reserved - n.cost_reserved
        FROM unnest(%(account_ids)s::uuid[], %(period_starts)s::timestamptz[], %(used)s::bigint[],
                %(reserved)s::bigint[], %(cost_used)s::bigint[], %(cost_reserved)s::bigint[])
                AS n (account_id, period_start, used, reserved, cost_used, cost_reserved)
            JOIN accounts a ON a.id = n.account_id {usage_thresholds.OF_PLAN}
        WHERE q.account_id = n.account_id AND q.period_start = n.period_start
        RETURNING q.account_id, {usage_thresholds.TO_BE_TOLD} AS to_be_told,
            coalesce(q.cost_used >= a.hard_cap
                AND q.period_start = (billing_period(a.billing_anchor, now())).period_start, false) AS capped
    ), spent AS (
        -- A month begins anew with its first receipt. Whoever stopped the platform before, and why, stays.
        UPDATE platform p SET (month, spent, stopped_at, stopped_reason) = (
            SELECT this.month, this.spent,
                CASE WHEN stops THEN clock_timestamp() ELSE p.stopped_at END,
                CASE WHEN stops THEN 'spend_cap' ELSE p.stopped_reason END
            FROM (SELECT date_trunc('month', now(), 'UTC') AS month) AS clock,
                LATERAL (
                    SELECT clock.month, CASE WHEN p.month = clock.month THEN p.spent ELSE 0 END + %(cost)s AS spent
                ) AS this,
                LATERAL (SELECT p.stopped_at IS NULL AND this.spent >= p.hard_cap AS stops) AS cap
        ) WHERE %(cost)s > 0
    )
    SELECT account_id, to_be_told, capped,
        coalesce(current_setting('batchyard.deliveries', true) = 'on', false) AS to_deliver
    FROM settled
"""
