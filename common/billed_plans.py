"""An account's plan as its subscriptions give it: settled whenever Stripe tells something, and when a time is over."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from common import (
    audit,
    billing_mails,
    entitlement,
    json_text,
    plan_moves,
    plans,
    queue,
    stripe_registers,
    usage_thresholds,
)
from common.audit import Actor
from common.database import as_owner
from common.entitlement import Standing
from common.errors import BatchyardError
from common.settings import settings

log = logging.getLogger(__name__)

# Who acts, for the audit log.
BILLING = Actor("billing")
ACCOUNTS_PER_PASS = 100


@dataclass(frozen=True, slots=True)
class Move:
    """The plan that an account was given: once that is committed, `follow` moves its work along."""

    account_id: UUID
    plan: str


def settle(connection: Connection, account_id: UUID) -> Move | None:
    """Gives the account the plan that follows from what Stripe has told until now, in the transaction that took in
    something of it. What an operator gave it stands until another plan follows."""
    account = connection.execute(_LOCK, {"account_id": account_id}).one()
    found = stand(connection, account_id, account.now)
    changes = found.plan is not None and found.plan != account.billed_plan
    plan = found.plan if changes and found.plan is not None else account.plan
    moves = plan != account.plan
    parameters = {
        "account_id": account_id,
        "plan": plan,
        "moves": moves,
        "billed_plan": found.plan if found.plan is not None else account.billed_plan,
        "grace_until": found.grace_until,
        "due_at": found.changes_at,
        "metered_from": found.metered_from,
    }
    connection.execute(_SETTLE, parameters)
    if found.grace_until is not None and account.grace_until is None:
        billing_mails.payment_failed(connection, account_id, found.grace_until)
    if not moves:
        return None
    limits = plans.with_overrides(plan, json_text.dumps(account.overrides).decode())
    usage_thresholds.tell_again(connection, account_id, limits, account.hard_cap, other_soft_cap=False)
    audit.record(connection, BILLING, "account.change", account_id, plan={"from": account.plan, "to": plan})
    billing_mails.plan_changed(connection, account_id, plan)
    return Move(account_id, plan)


def stand(connection: Connection, account_id: UUID, now: datetime) -> Standing:
    """What the account's subscriptions give it."""
    return entitlement.standing(
        stripe_registers.subscriptions(connection, account_id),
        stripe_registers.invoices(connection, account_id),
        # One that is no longer sold stays what its subscribers pay for.
        {name: plan.price for name, plan in plans.plans().items()},
        now,
        timedelta(days=settings().payment_grace_days),
    )


def follow(move: Move) -> None:
    """Moves the account's open batches to its plan's queue. After a crash before it the sweep does."""
    plan_moves.move_open_batches(move.account_id, move.plan)
    queue.announce_work(move.plan)


def settle_due() -> list[Move]:
    """Settles the accounts whose time is over: a grace has ended, or a subscription that was to end. What Stripe tells
    does so too; this is for the case that nobody hears it."""
    with as_owner() as connection:
        due = connection.execute(_DUE, {"limit": ACCOUNTS_PER_PASS}).scalars().all()
    moves = []
    for account_id in due:
        try:
            with as_owner() as connection:
                move = settle(connection, account_id)
        except BatchyardError as error:
            # As of limits of its own that a later version does not know: everybody else's sweep goes on.
            log.error("an account's plan cannot be settled: %s", error.message, extra={"account": str(account_id)})
            continue
        if move is not None:
            moves.append(move)
    return moves


def unfinished_moves() -> list[Move]:
    """Accounts whose open batches may be on another plan's queue."""
    with as_owner() as connection:
        return [Move(*row) for row in connection.execute(_MOVING, {"limit": ACCOUNTS_PER_PASS})]


# The moment is that after the wait for the lock.
_LOCK = text("""
    SELECT plan, billed_plan, grace_until, overrides, hard_cap, clock_timestamp() AS now FROM accounts
    WHERE id = :account_id FOR NO KEY UPDATE
""")
# Of several customers the account's is the one that it has, as long as that is there.
_SETTLE = text("""
    UPDATE accounts a SET plan = :plan, moving = moving OR :moves, billed_plan = :billed_plan,
        grace_until = :grace_until, billing_due_at = :due_at, metered_from = :metered_from,
        stripe_customer_id = coalesce(
            (SELECT c.id FROM stripe_customers c WHERE c.id = a.stripe_customer_id AND NOT c.deleted),
            (SELECT min(c.id) FROM stripe_customers c WHERE c.account_id = a.id AND NOT c.deleted))
    WHERE id = :account_id
""")
_DUE = text("""
    SELECT id FROM accounts WHERE billing_due_at <= clock_timestamp() ORDER BY billing_due_at LIMIT :limit
""")
_MOVING = text("SELECT id, plan FROM accounts WHERE moving ORDER BY id LIMIT :limit")
