"""Telling an account how much of its limits it has used: 50, 80 and 100% of its tokens a month and of its hard cap, and
all of its soft cap, each once a billing period.

What was told stands in the account's quota, and is written with the event. Of several shares passed at once the highest
is told. Where a limit is raised, what it is no longer used up to can be told again.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import Connection as PsycopgConnection
from sqlalchemy import Connection, text

from common.plans import Plan, plans
from common.sql_arrays import arrays

# For statements that have the account as `a` and its plan's row of `plan_limits` as `l`.
TOKENS_PER_MONTH = "coalesce((a.overrides ->> 'tokens_per_month')::bigint, l.tokens_per_month)"
OF_PLAN = """
    LEFT JOIN unnest(%(plans)s::text[], %(tokens_per_month)s::bigint[]) AS l (plan, tokens_per_month) ON l.plan = a.plan
"""
# Of a quota `q`, whether anything is to be told.
TO_BE_TOLD = f"""(
    q.told_of_tokens <> share_reached(q.used, {TOKENS_PER_MONTH})
    OR q.told_of_cost <> share_reached(q.cost_used, a.hard_cap)
    OR coalesce(q.soft_cap_reached_at IS NULL AND q.cost_used >= a.soft_cap, false)
)"""


def of_plans() -> dict[str, str]:
    """What such statements are given beside their own parameters."""
    found = plans().values()
    return arrays(
        {"plans": [plan.name for plan in found], "tokens_per_month": [plan.tokens_per_month for plan in found]}
    )


def tell(connection: PsycopgConnection, parameters: Mapping[str, Any]) -> None:
    """Tells what is to be told of quotas that are locked, and marks it as told."""
    connection.execute(_TELL, parameters)


def tell_again(
    connection: Connection, account_id: UUID, limits: Plan, hard_cap: int | None, *, other_soft_cap: bool
) -> None:
    """The account has other limits: of the current period stands as told what is used of these, and nothing of another
    soft cap. What a lower limit is used up to is told with the next result."""
    parameters = {
        "account_id": account_id,
        "tokens_per_month": limits.tokens_per_month,
        "hard_cap": hard_cap,
        "other_soft_cap": other_soft_cap,
    }
    connection.execute(_TELL_AGAIN, parameters)


_OF_QUOTAS = f"""
    FROM unnest(%(account_ids)s::uuid[], %(period_starts)s::timestamptz[]) AS n (account_id, period_start)
    JOIN accounts a ON a.id = n.account_id {OF_PLAN}
"""

# The mark and the event are one: whoever has the one has the other.
_TELL = f"""
    WITH reached AS MATERIALIZED (
        SELECT q.account_id, q.period_start, of_limit.*
        {_OF_QUOTAS} JOIN quotas q ON q.account_id = n.account_id AND q.period_start = n.period_start,
            LATERAL (VALUES
                ('tokens_per_month', q.used, {TOKENS_PER_MONTH}, share_reached(q.used, {TOKENS_PER_MONTH}),
                    q.told_of_tokens),
                ('hard_cap', q.cost_used, a.hard_cap, share_reached(q.cost_used, a.hard_cap), q.told_of_cost),
                ('soft_cap', q.cost_used, a.soft_cap, CASE WHEN q.cost_used >= a.soft_cap THEN 100 ELSE 0 END,
                    CASE WHEN q.soft_cap_reached_at IS NULL THEN 0 ELSE 100 END)
            ) AS of_limit (name, used, value, share, told)
    ), told AS (
        UPDATE quotas q SET told_of_tokens = share_reached(q.used, {TOKENS_PER_MONTH}),
            told_of_cost = share_reached(q.cost_used, a.hard_cap),
            soft_cap_reached_at = CASE WHEN q.cost_used >= a.soft_cap
                THEN coalesce(q.soft_cap_reached_at, clock_timestamp()) ELSE q.soft_cap_reached_at END
        {_OF_QUOTAS}
        WHERE q.account_id = n.account_id AND q.period_start = n.period_start
    )
    SELECT write_event(account_id, 'usage.threshold_reached', NULL, jsonb_build_object(
        'id', 'acct_' || replace(account_id::text, '-', ''), 'limit', name, 'percent', share, 'used', used,
        'limit_value', value, 'period_start', extract(epoch FROM period_start)::bigint), false)
    FROM reached WHERE share > told
"""

# Also a row of which nothing was told yet is locked: a flush that is about to tell has read the limits before.
_TELL_AGAIN = text("""
    UPDATE quotas q SET
        told_of_tokens = least(q.told_of_tokens, share_reached(q.used, :tokens_per_month)),
        told_of_cost = least(q.told_of_cost, share_reached(q.cost_used, CAST(:hard_cap AS bigint))),
        soft_cap_reached_at = CASE WHEN NOT :other_soft_cap THEN q.soft_cap_reached_at END
    FROM accounts a, billing_period(a.billing_anchor, now()) AS p
    WHERE a.id = :account_id AND q.account_id = a.id AND q.period_start = p.period_start
""")
