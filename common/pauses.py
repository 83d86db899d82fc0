"""Pausing an account's work: nothing of it starts, calls in flight end, and what is finished stays."""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

from common.database import owner_engine

Reason = Literal["spend_cap", "account_suspended"]


def pause_account(account_id: UUID, reason: Reason) -> Sequence[UUID]:
    """Pauses the account's batches that are in progress; returns them. One that is about to run rows again is left
    until it does: the sweep pauses it then."""
    with owner_engine().begin() as connection:
        batch_ids = connection.execute(_LOCK_RUNNING, {"account_id": account_id}).scalars().all()
        connection.execute(_PAUSE, {"batch_ids": batch_ids, "reason": reason})
    return batch_ids


def resume_account(account_id: UUID, reason: Reason) -> set[str]:
    """Moves the account's batches that were paused for this reason on; those of a suspended account stay paused, for
    that. Returns the plans that have work now: `queue.announce_work` tells the workers."""
    with owner_engine().begin() as connection:
        return _resume(connection, account_id, reason)


def _resume(connection: Connection, account_id: UUID, reason: Reason) -> set[str]:
    parameters = {"account_id": account_id, "reason": reason}
    batch_ids = connection.execute(_LOCK_PAUSED, parameters).scalars().all()
    suspended = connection.execute(_IS_SUSPENDED, {"account_id": account_id}).scalar_one()
    if suspended:
        connection.execute(_PAUSE, {"batch_ids": batch_ids, "reason": "account_suspended"})
        return set()
    return set(connection.execute(_RESUME, {"batch_ids": batch_ids}).scalars())


_LOCK_RUNNING = text("""
    SELECT id FROM batches WHERE account_id = :account_id AND state = 'in_progress' AND NOT retrying
    ORDER BY id FOR UPDATE
""")
_LOCK_PAUSED = text("""
    SELECT id FROM batches WHERE account_id = :account_id AND state = 'paused' AND paused_reason = :reason
    ORDER BY id FOR UPDATE
""")
_IS_SUSPENDED = text("SELECT state = 'suspended' FROM accounts WHERE id = :account_id")
_PAUSE = text("""
    UPDATE batches SET state = 'paused', paused_reason = :reason, paused_at = coalesce(paused_at, clock_timestamp())
    WHERE id = ANY(:batch_ids)
""")
_RESUME = text("""
    UPDATE batches SET state = 'in_progress', paused_reason = NULL, paused_at = NULL
    WHERE id = ANY(:batch_ids) RETURNING plan
""")
