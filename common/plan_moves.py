"""An account's open batches go along when it changes its plan, so that its work is served from one queue alone."""

from uuid import UUID

from sqlalchemy import text

from common.database import as_owner

BATCHES_PER_STEP = 5_000


def move_open_batches(account_id: UUID, plan: str) -> None:
    """Moves the account's open batches to the plan's queue, in short steps. What a crash leaves behind is still served,
    from the queue of the plan before, until the sweep moves it. `queue.announce_work` tells the workers."""
    while _step(account_id, plan):
        pass


def _step(account_id: UUID, plan: str) -> bool:
    """One transaction of it; False when nothing is left. It holds the clocks of all plans concerned, as only their
    holder may move a cursor, and a batch on the move would have two."""
    parameters = {"account_id": account_id, "plan": plan, "limit": BATCHES_PER_STEP}
    with as_owner() as connection:
        connection.execute(_LOCK_CLOCKS, parameters)
        moved = connection.execute(_MOVE, parameters).rowcount
        # Each plan has its own virtual time: what was much on one may be next to nothing on another, or for ever.
        if moved < BATCHES_PER_STEP:
            connection.execute(_ENTER, parameters)
        return moved == BATCHES_PER_STEP


_OPEN = "account_id = :account_id AND plan <> :plan AND state IN ('validating', 'in_progress', 'paused')"

# As claims lock them: a clock that there is not yet is made, so that it can be held.
_LOCK_CLOCKS = text(f"""
    INSERT INTO plan_clocks (plan)
    SELECT plan FROM (
        SELECT :plan AS plan UNION SELECT plan FROM batches WHERE {_OPEN}
    ) AS concerned ORDER BY plan
    ON CONFLICT (plan) DO UPDATE SET plan = excluded.plan
""")
_MOVE = text(f"""
    UPDATE batches b SET plan = :plan
    FROM (SELECT id FROM batches WHERE {_OPEN} ORDER BY id LIMIT :limit FOR UPDATE) AS open WHERE b.id = open.id
""")
_ENTER = text("""
    UPDATE accounts SET virtual_time = coalesce((SELECT virtual_time FROM plan_clocks WHERE plan = :plan), 0),
        moving = false
    WHERE id = :account_id AND plan = :plan
""")
