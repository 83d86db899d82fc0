"""Pausing all that an account has in progress, and letting it go on: nothing new starts, calls in flight end, and what
is finished stays."""

from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

from common import queue
from common.database import as_owner

Reason = Literal["spend_cap", "account_suspended"]


def pause_account(account_id: UUID, reason: Reason) -> list[UUID]:
    """Pauses the account's batches in progress. Returns those that it paused."""
    with as_owner() as connection:
        paused = pause(connection, account_id, reason)
    queue.announce_deliveries()
    return paused


def resume_account(account_id: UUID, reason: Reason) -> set[str]:
    """Lets the account's batches go on that were paused for this reason; those of a suspended account stay paused, for
    that, and those that their customer paused, for that. Returns the plans to announce work of."""
    with as_owner() as connection:
        suspended = connection.execute(_IS_SUSPENDED, {"account_id": account_id}).scalar_one()
        plans_with_work = resume(connection, account_id, reason, suspended=suspended)
    queue.announce_deliveries()
    return plans_with_work


def pause(connection: Connection, account_id: UUID, reason: Reason) -> list[UUID]:
    """As pause_account, in a transaction that has not locked the account yet. A batch whose rows are about to run again
    is left until they are: the sweep pauses it then."""
    batch_ids = connection.execute(_LOCK_RUNNING, {"account_id": account_id}).scalars().all()
    connection.execute(_PAUSE, {"batch_ids": batch_ids, "reason": reason})
    return list(batch_ids)


def resume(connection: Connection, account_id: UUID, reason: Reason, *, suspended: bool) -> set[str]:
    """As resume_account, in a transaction that has not locked the account yet."""
    parameters = {"account_id": account_id, "reason": reason}
    batch_ids = connection.execute(_LOCK_PAUSED, parameters).scalars().all()
    if suspended:
        connection.execute(_PAUSE, {"batch_ids": batch_ids, "reason": "account_suspended"})
        return set()
    return set(connection.execute(_RESUME, {"batch_ids": batch_ids}).scalars())


# In the order of their ids, as everybody who locks several batches.
_LOCK_RUNNING = text("""
    SELECT id FROM batches WHERE account_id = :account_id AND state = 'in_progress' AND NOT retrying
    ORDER BY id FOR UPDATE
""")
_LOCK_PAUSED = text("""
    SELECT id FROM batches WHERE account_id = :account_id AND state = 'paused' AND paused_reason = :reason
    ORDER BY id FOR UPDATE
""")
_IS_SUSPENDED = text("SELECT state = 'suspended' FROM accounts WHERE id = :account_id")
# From when on it was paused stays, where only the reason is another.
_PAUSE = text("""
    UPDATE batches SET state = 'paused', paused_reason = :reason,
        paused_at = CASE state WHEN 'paused' THEN paused_at ELSE clock_timestamp() END
    WHERE id = ANY(:batch_ids)
""")
# One that its customer paused as well stays so, for that.
_RESUME = text("""
    UPDATE batches SET state = CASE WHEN pause_requested_at IS NULL THEN 'in_progress' ELSE 'paused' END,
        paused_reason = CASE WHEN pause_requested_at IS NOT NULL THEN 'requested' END
    WHERE id = ANY(:batch_ids) RETURNING plan
""")
