"""What is not finished in its time: batches by their completion window, single jobs by their own `expires_in`.

Both are found by the index of what is due, so that a look costs what has become due and not what is pending.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import queue, quotas
from common.batch_states import finish
from common.database import owner_engine
from worker.endings import reason

log = logging.getLogger(__name__)

AT_ONCE = 500


def expire() -> None:
    """Begins nothing more of what is due. A batch is closed by its task, which delivers what finished; a single job
    that no worker holds ends here. Whoever holds one drops it by itself, and has it recorded."""
    while _expire_some() == AT_ONCE:
        pass


def _expire_some() -> int:
    """One transaction of it. Returns how many were due."""
    with owner_engine().begin() as connection:
        due = connection.execute(_EXPIRE, {"limit": AT_ONCE}).all()
        _end_jobs(connection, [batch for batch in due if batch.kind == "single" and batch.unclaimed])
    if due:
        queue.announce_deliveries()
    for batch in due:
        if batch.kind != "single":
            log.info("a batch's completion window is over", extra={"batch": str(batch.id)})
    return len(due)


def _end_jobs(connection: Connection, ended: Sequence[Any]) -> None:
    """Writes the results of jobs that never began, and lets go of what they held."""
    if not ended:
        return
    code, message = reason("expired", single=True)
    batch_ids = [batch.id for batch in ended]
    connection.execute(_END_JOBS, {"batch_ids": batch_ids, "code": code, "message": message})
    finish(connection.exec_driver_sql, batch_ids)
    held: dict[tuple[UUID, datetime], list[Any]] = defaultdict(list)
    for batch in ended:
        if batch.period_start is not None:
            held[batch.account_id, batch.period_start].append(batch)
    for (account_id, period_start), of_period in sorted(held.items(), key=lambda item: item[0]):
        tokens = sum(batch.reserved_tokens for batch in of_period)
        cost = sum(batch.reserved_cost for batch in of_period)
        quotas.release(connection, account_id, period_start, tokens, cost)


# now(), which stands still: the index cannot be searched for a moment that moves on with each row. What another
# transaction holds comes next time.
DUE = """
    SELECT id FROM batches
    WHERE expires_at < now() AND state IN ('validating', 'in_progress', 'paused') AND NOT retrying
    ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
"""

# A batch without rows has nothing to close.
_EXPIRE = text(f"""
    WITH due AS MATERIALIZED ({DUE})
    UPDATE batches b SET expiring_at = clock_timestamp(), paused_reason = NULL, pause_requested_at = NULL,
        state = CASE b.state WHEN 'validating' THEN 'expired' ELSE 'expiring' END,
        ended_at = CASE b.state WHEN 'validating' THEN clock_timestamp() END
    FROM due WHERE b.id = due.id
    RETURNING b.id, b.kind, b.cursor = 0 AS unclaimed, b.account_id, b.period_start, b.reserved_tokens, b.reserved_cost
""")

_END_JOBS = text("""
    WITH ended AS (
        UPDATE batches SET cursor = 1, expired = 1, reserved_tokens = 0, reserved_cost = 0
        WHERE id = ANY(CAST(:batch_ids AS uuid[])) RETURNING id, account_id
    )
    INSERT INTO results (batch_id, seq, account_id, outcome, error_code, error_message, attempts, finished_at)
    SELECT id, 0, account_id, 'expired', :code, :message, 0, clock_timestamp() FROM ended
""")
