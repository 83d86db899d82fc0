"""Pausing all that an account has in progress, and letting it go on: nothing new starts, calls in flight finish."""

from typing import Literal
from uuid import UUID

from sqlalchemy import text

from common.database import owner_engine

Reason = Literal["spend_cap", "account_suspended"]


def pause_account(account_id: UUID, reason: Reason) -> list[UUID]:
    """Pauses the account's batches in progress. Returns those that it paused."""
    with owner_engine().begin() as connection:
        return list(connection.execute(_PAUSE, {"account_id": account_id, "reason": reason}).scalars())


def resume_account(account_id: UUID, reason: Reason) -> set[str]:
    """Lets the account's batches go on that were paused for this reason. Returns the plans to announce work of."""
    with owner_engine().begin() as connection:
        return set(connection.execute(_RESUME, {"account_id": account_id, "reason": reason}).scalars())


# In the order of their ids, as everybody who locks several batches.
_PAUSE = text("""
    UPDATE batches SET state = 'paused', paused_reason = :reason, paused_at = clock_timestamp()
    WHERE id IN (
        SELECT id FROM batches WHERE account_id = :account_id AND state = 'in_progress' ORDER BY id FOR UPDATE
    ) RETURNING id
""")

_RESUME = text("""
    UPDATE batches SET state = 'in_progress', paused_reason = NULL
    WHERE id IN (
        SELECT id FROM batches
        WHERE account_id = :account_id AND state = 'paused' AND paused_reason = :reason ORDER BY id FOR UPDATE
    ) RETURNING plan
""")
