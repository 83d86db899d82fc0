"""Reconciling: what an account's receipts come to, against its ledger, the outbox and Stripe's own sums.

The database is read in one snapshot, and Stripe after it: what is delivered meanwhile can only make Stripe's sum come
closer to the receipts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from common import ids, invariants, stripe_api, stripe_meters
from common.stripe_api import StripeRefused
from common.stripe_prices import METER

# By then an hour is rolled up and sent, where nothing is in the way.
SETTLED_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Tokens of an account: `used` are those of the receipts since it is metered and of hours that are compared. The
    others are what must be nothing: how much more the ledger, the outbox and Stripe have. Of what the outbox has,
    `waiting` is not at Stripe yet."""

    account_id: UUID
    used: int
    ledger: int
    outbox: int
    waiting: int
    stripe: int
    problem: str | None

    @property
    def shown_id(self) -> str:
        return ids.show("acct_", self.account_id)

    @property
    def is_off(self) -> bool:
        return bool(self.ledger or self.outbox or self.stripe or self.problem)


def reconcile(account_id: UUID | None = None, *, running_hour: bool = False) -> Iterator[Reconciled]:
    """All accounts that are metered, or one: hours that ended an hour ago, or with the running hour all there is.
    Raises StripeAway, and Conflict where nothing is sold."""
    stripe_api.client()
    with invariants.snapshot() as connection:
        now = connection.execute(_NOW).scalar_one().astimezone(UTC)
        until = stripe_meters.whole_minute(now, up=True)
        if not running_hour:
            until = (now - SETTLED_AFTER).replace(minute=0, second=0, microsecond=0)
        parameters = {"account_id": account_id, "until": until, "meter": METER}
        accounts = connection.execute(_ACCOUNTS, parameters).all()
    return (_against_stripe(account, until) for account in accounts)


def _against_stripe(account: Any, until: datetime) -> Reconciled:
    found, problems = 0, []
    for customer in account.customers:
        try:
            found += stripe_meters.tokens(METER, customer, account.since, until)
        except StripeRefused as refused:
            problems.append(f"{customer}: {refused.told}")
    return Reconciled(
        account_id=account.id,
        used=account.used,
        ledger=account.settled - account.receipts,
        outbox=account.told - account.used,
        waiting=account.waiting,
        stripe=found - account.used,
        problem="; ".join(problems) or None,
    )


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of which Stripe's sum is another than that of what was delivered."""

    hour: datetime
    delivered: int
    stripe: int


def hours(account_id: UUID) -> Sequence[Hour]:
    """Where the two differ, for whoever looks why; what Stripe does not tell is nothing there."""
    with invariants.snapshot() as connection:
        delivered = connection.execute(_DELIVERED, {"account_id": account_id, "meter": METER}).all()
    sums = {row.hour.astimezone(UTC): row.tokens for row in delivered}
    if not sums:
        return []
    summed: dict[datetime, int] = {}
    for customer in {row.customer for row in delivered}:
        try:
            found = stripe_meters.tokens_by_hour(METER, customer, min(sums), max(sums) + timedelta(hours=1))
        except StripeRefused:
            # As of a customer that was deleted: what is said of the account names it.
            continue
        summed |= {hour: summed.get(hour, 0) + tokens for hour, tokens in found.items()}
    return [
        Hour(hour, sums.get(hour, 0), summed.get(hour, 0))
        for hour in sorted(sums | summed)
        if sums.get(hour, 0) != summed.get(hour, 0)
    ]


_NOW = text("SELECT clock_timestamp()")

# What was settled is known by the period that admitted it, not by the hour: the ledger is compared with all receipts,
# and with it what came before there were quotas.
_ACCOUNTS = text("""
    SELECT a.id, date_trunc('hour', a.metered_from, 'UTC') AS since, (
            SELECT coalesce(sum(q.used), 0)::bigint FROM quotas q WHERE q.account_id = a.id
        ) + (
            SELECT coalesce(sum(b.prompt_tokens + b.completion_tokens), 0)::bigint FROM batches b
            WHERE b.account_id = a.id AND b.period_start IS NULL
        ) AS settled, used.receipts, used.used, told.told, told.waiting,
        (SELECT array_agg(DISTINCT customer) FROM (
            SELECT a.stripe_customer_id AS customer
            UNION SELECT o.customer FROM meter_outbox o WHERE o.account_id = a.id AND o.meter = :meter
        ) AS ever WHERE customer IS NOT NULL) AS customers
    FROM accounts a, LATERAL (
        SELECT coalesce(sum(t.tokens), 0)::bigint AS receipts,
            coalesce(sum(t.tokens) FILTER (WHERE t.created_at >= a.metered_from AND t.created_at < :until), 0)::bigint
                AS used
        FROM (
            SELECT u.created_at, CAST(u.prompt_tokens AS bigint) + u.completion_tokens AS tokens FROM usage_records u
            WHERE u.account_id = a.id
        ) AS t
    ) AS used, LATERAL (
        SELECT coalesce(sum(o.tokens), 0)::bigint AS told,
            coalesce(sum(o.tokens) FILTER (WHERE o.state <> 'delivered'), 0)::bigint AS waiting
        FROM meter_outbox o WHERE o.account_id = a.id AND o.meter = :meter AND o.hour < :until
    ) AS told
    WHERE a.metered_from < :until AND (CAST(:account_id AS uuid) IS NULL OR a.id = :account_id)
        AND (a.stripe_customer_id IS NOT NULL OR told.told > 0)
    ORDER BY a.id
""")

_DELIVERED = text("""
    SELECT customer, hour, sum(tokens)::bigint AS tokens FROM meter_outbox
    WHERE account_id = :account_id AND meter = :meter AND state = 'delivered' GROUP BY customer, hour ORDER BY hour
""")
