"""How a batch reaches its end. Whoever writes the last outcome calls `finish` in the same transaction."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, text

from common.plans import PLANS


def finish(connection: Connection, batch_ids: Iterable[UUID]) -> set[UUID]:
    """Ends those of these batches whose every row has its outcome; returns them. Their rows must be locked already."""
    return set(connection.execute(_FINISH, {"ids": list(batch_ids)} | _RETENTION).scalars())


_RETENTION = {
    "plans": [plan.name for plan in PLANS.values()],
    "seconds": [int(plan.retention.total_seconds()) for plan in PLANS.values()],
}

_FINISH = text("""
    UPDATE batches b SET
        state = CASE b.state WHEN 'cancelling' THEN 'cancelled' WHEN 'expiring' THEN 'expired' ELSE 'completed' END,
        ended_at = clock_timestamp(),
        results_expire_at = clock_timestamp()
            + make_interval(secs => least(b.results_seconds, kept.seconds)::double precision)
    FROM unnest(CAST(:plans AS text[]), CAST(:seconds AS int[])) AS kept (plan, seconds)
    WHERE b.id = ANY(:ids) AND kept.plan = b.plan AND b.state IN ('in_progress', 'cancelling', 'expiring')
        AND NOT b.retrying AND b.succeeded + b.failed + b.cancelled + b.expired = b.total
    RETURNING b.id
""")
