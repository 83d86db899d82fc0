"""How a batch reaches its end. Whoever writes the last outcome calls `finish` in the same transaction."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common.plans import plans
from common.sql_arrays import arrays


def finish(connection: Connection, batch_ids: Iterable[UUID]) -> set[UUID]:
    """Ends those of these batches whose every row has its outcome; returns them. Their rows must be locked already."""
    columns: dict[str, list[Any]] = {
        "ids": list(batch_ids),
        "plans": [plan.name for plan in plans().values()],
        "days": [plan.retention_days for plan in plans().values()],
    }
    return set(connection.execute(_FINISH, arrays(columns)).scalars())


_FINISH = text("""
    UPDATE batches b SET
        state = CASE b.state WHEN 'cancelling' THEN 'cancelled' WHEN 'expiring' THEN 'expired' ELSE 'completed' END,
        paused_reason = NULL, ended_at = clock_timestamp(),
        results_expire_at = clock_timestamp()
            + make_interval(secs => least(
                b.results_seconds, 86400 * coalesce((a.overrides ->> 'retention_days')::int, kept.days)
            )::double precision)
    FROM unnest(CAST(:plans AS text[]), CAST(:days AS int[])) AS kept (plan, days), accounts a
    WHERE b.id = ANY(CAST(:ids AS uuid[])) AND kept.plan = b.plan AND a.id = b.account_id
        AND b.state IN ('in_progress', 'paused', 'cancelling', 'expiring') AND NOT b.retrying
        AND b.succeeded + b.failed + b.cancelled + b.expired = b.total
    RETURNING b.id
""")
