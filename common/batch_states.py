"""How a batch reaches its end. Whoever writes the last outcome calls `finish` in the same transaction."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from common.plans import plans
from common.sql_arrays import arrays

# A statement and its parameters, on a connection of SQLAlchemy (`exec_driver_sql`) or of the driver (`execute`).
Execute = Callable[[str, dict[str, str]], Iterable[Any]]


def finish(execute: Execute, batch_ids: Iterable[UUID]) -> None:
    """Ends those of these batches whose every row has its outcome. Their rows must be locked already."""
    columns: dict[str, list[Any]] = {
        "ids": list(batch_ids),
        "plans": [plan.name for plan in plans().values()],
        "days": [plan.retention_days for plan in plans().values()],
    }
    execute(_FINISH, arrays(columns))


_FINISH = """
    UPDATE batches b SET
        state = CASE
            WHEN b.state = 'cancelling' THEN 'cancelled'
            -- Whoever holds a single job drops it at its deadline, before the sweep comes by.
            WHEN b.state = 'expiring' OR b.kind = 'single' AND b.expired = 1 THEN 'expired'
            ELSE 'completed' END,
        paused_reason = NULL, pause_requested_at = NULL, ended_at = clock_timestamp(),
        results_expire_at = clock_timestamp()
            + make_interval(secs => least(
                b.results_seconds, 86400 * coalesce((a.overrides ->> 'retention_days')::int, kept.days)
            )::double precision)
    FROM unnest(%(plans)s::text[], %(days)s::int[]) AS kept (plan, days), accounts a
    WHERE b.id = ANY(%(ids)s::uuid[]) AND kept.plan = a.plan AND a.id = b.account_id
        AND b.state IN ('in_progress', 'paused', 'cancelling', 'expiring') AND NOT b.retrying
        AND b.succeeded + b.failed + b.cancelled + b.expired = b.total
"""
