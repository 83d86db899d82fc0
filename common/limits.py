"""What applies to an account now, and how much of it is taken."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from common.database import as_account
from common.keys import Caller


@dataclass(frozen=True, slots=True)
class Taken:
    """What an account has used and what is held for its jobs, at one moment; costs are nano-dollars. `used`, `reserved`
    and the costs are of the billing period of now, `queued_tokens` are held in any period."""

    used: int
    reserved: int
    queued_tokens: int
    cost_used: int
    cost_reserved: int
    soft_cap: int | None
    soft_cap_reached_at: datetime | None
    running_jobs: int


def taken(caller: Caller) -> Taken:
    """What the caller's account has taken of its limits."""
    parameters = {"account_id": caller.account_id, "period_start": caller.period_start}
    with as_account(caller.account_id) as connection:
        return Taken(**connection.execute(_TAKEN, parameters).one()._mapping)


# A period has its row from its first admission on.
_TAKEN = text("""
    SELECT coalesce(q.used, 0) AS used, coalesce(q.reserved, 0) AS reserved,
        (SELECT coalesce(sum(every.reserved), 0)::bigint FROM quotas every WHERE every.account_id = a.id)
            AS queued_tokens,
        coalesce(q.cost_used, 0) AS cost_used, coalesce(q.cost_reserved, 0) AS cost_reserved,
        a.soft_cap, q.soft_cap_reached_at, running_jobs() AS running_jobs
    FROM accounts a LEFT JOIN quotas q ON q.account_id = a.id AND q.period_start = :period_start
    WHERE a.id = :account_id
""")
