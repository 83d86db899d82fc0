"""A customer's own pause of a batch: nothing new of it starts until its customer lets it go on, and nobody else does.

`pause_requested_at` is the customer's wish and stands beside what a cap or a suspension does, so that each of the two
can come and go without the other: a batch goes on only when none of them is left.
"""

from uuid import UUID

from sqlalchemy import text

from common import batches, queue
from common.batches import ENDED_STATES, Batch
from common.database import as_account
from common.errors import Conflict

# What else pauses, by the code of the refusal to resume it.
_OTHERS = {
    "max_cost": ("max_cost_reached", "its own cap is reached: raise max_cost, or take it away"),
    "spend_cap": ("spend_cap_reached", "the account's cap is reached: the operator can raise it"),
    "account_suspended": ("account_suspended", "the account is suspended: the operator can resume it"),
}


def pause(account_id: UUID, batch_id: str) -> Batch:
    """Begins nothing more of a batch; calls in flight end and are recorded. A batch that is validating is read first
    and then waits. Once more changes nothing. Raises NotFound, and Conflict when the batch is ending or has ended."""
    batch = batches.get(account_id, batch_id)
    with as_account(account_id) as connection:
        paused = connection.execute(_PAUSE, {"account_id": account_id, "batch_id": batch.id}).rowcount
    queue.announce_deliveries()
    batch = batches.get(account_id, batch_id)
    if not paused:
        _refuse_ending(batch)
    return batch


def resume(account_id: UUID, batch_id: str) -> Batch:
    """Takes the customer's pause back: the batch goes on where it was, unless a cap or a suspension pauses it as well.
    `queue.announce_work` then wakes a worker. A batch that is not paused stays as it is. Raises NotFound, and Conflict
    when the batch is ending or has ended, or when only others pause it."""
    batch = batches.get(account_id, batch_id)
    with as_account(account_id) as connection:
        resumed = connection.execute(_RESUME, {"account_id": account_id, "batch_id": batch.id}).rowcount
    queue.announce_deliveries()
    batch = batches.get(account_id, batch_id)
    if not resumed:
        _refuse_ending(batch)
        if batch.paused_reason in _OTHERS:
            code, cure = _OTHERS[batch.paused_reason]
            raise Conflict(f"The batch was not paused by you: {cure}.", param="batch_id", code=code)
    return batch


def _refuse_ending(batch: Batch) -> None:
    if batch.state in ENDED_STATES:
        raise Conflict(f"The batch has ended already: it is {batch.state}.", param="batch_id", code="batch_ended")
    if batch.state in ("cancelling", "expiring"):
        message = "The batch is ending: nothing new of it starts, and nothing will."
        raise Conflict(message, param="batch_id", code="batch_ending")


# Each looks at the row as it is once it is locked: a claim that is being made is over by then, or finds it paused.
_PAUSE = text("""
    UPDATE batches SET pause_requested_at = coalesce(pause_requested_at, clock_timestamp()),
        state = CASE state WHEN 'in_progress' THEN 'paused' ELSE state END,
        paused_reason = CASE state WHEN 'in_progress' THEN 'requested' ELSE paused_reason END,
        paused_at = CASE state WHEN 'in_progress' THEN clock_timestamp() ELSE paused_at END
    WHERE id = :batch_id AND account_id = :account_id AND kind <> 'single'
        AND state IN ('validating', 'in_progress', 'paused')
""")

# What came to pass under the customer's pause takes its place. What comes to pass right now the sweep sees.
_RESUME = text("""
    UPDATE batches b SET pause_requested_at = NULL,
        state = CASE WHEN b.paused_reason = 'requested' AND other.reason IS NULL THEN 'in_progress' ELSE b.state END,
        paused_reason = CASE b.paused_reason WHEN 'requested' THEN other.reason ELSE b.paused_reason END
    FROM batches l JOIN accounts a ON a.id = l.account_id,
        LATERAL billing_period(a.billing_anchor, now()) AS p,
        LATERAL (
            SELECT CASE
                WHEN a.state = 'suspended' THEN 'account_suspended'
                WHEN EXISTS (SELECT 1 FROM quotas q WHERE q.account_id = a.id AND q.period_start = p.period_start
                    AND q.cost_used >= a.hard_cap) THEN 'spend_cap'
                WHEN l.cost >= l.max_cost THEN 'max_cost'
            END AS reason
        ) AS other
    WHERE l.id = :batch_id AND l.account_id = :account_id AND b.id = l.id AND b.pause_requested_at IS NOT NULL
""")
