"""What must be true of batches and their events: each change is told once, and nothing is told that is not so. As in
common/invariants.py, the check reads one snapshot and returns findings."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids
from common.invariants import Finding
from common.plans import plans


def events(connection: Connection, batch_ids: Sequence[UUID]) -> list[Finding]:
    """Of these batches and single jobs, those whose end is not told, or told twice, or told before it came. Batches of
    before there were events have none, and a single job has its event where its URL wants it."""
    parameters = {
        "ids": list(batch_ids),
        "plans": [plan.name for plan in plans().values()],
        "days": [plan.retention_days for plan in plans().values()],
    }
    return [_finding(row) for row in connection.execute(_EVENTS, parameters)]


def _finding(row: Any) -> Finding:
    if row.twice:
        problem = f"its end is told {row.twice + 1} times"
    elif row.expected is None:
        problem = f"is {row.state}, and {row.latest} is told"
    else:
        problem = f"{row.expected} is not told; the last that is: {row.latest or 'nothing'}"
    return Finding("events", ids.show("job_" if row.single else "batch_", row.id), problem)


# A change leads from one state to another, so that no two ends can follow each other. Events are kept for as long as
# results, by the limits of now.
_EVENTS = text("""
    WITH looked_at AS (
        SELECT b.id, b.state, b.kind = 'single' AS single, b.ended_at IS NOT NULL AS ended, b.webhook_url,
            b.webhook_events,
            CASE
                WHEN b.ended_at IS NULL THEN NULL
                WHEN b.kind <> 'single' THEN 'batch.' || b.state
                WHEN b.succeeded = 1 THEN 'job.completed'
                ELSE 'job.failed'
            END AS told_end
        FROM batches b JOIN accounts a ON a.id = b.account_id
            LEFT JOIN unnest(CAST(:plans AS text[]), CAST(:days AS int[])) AS kept (plan, days) ON kept.plan = a.plan
        WHERE b.id = ANY(:ids) AND (b.ended_at IS NULL OR b.ended_at > clock_timestamp() - make_interval(
            days => coalesce(CAST(a.overrides ->> 'retention_days' AS int), kept.days)))
    ), told AS (
        SELECT e.batch_id, e.id, e.type, e.type IN ('batch.completed', 'batch.failed', 'batch.expired',
                'batch.cancelled', 'job.completed', 'job.failed') AS is_end
        FROM events e WHERE e.batch_id = ANY(:ids) AND e.type <> 'batch.progress'
    ), followed AS (
        SELECT t.*, lag(t.is_end) OVER (PARTITION BY t.batch_id ORDER BY t.id) AS after_end FROM told t
    ), compared AS (
        SELECT l.id, l.state, l.single, l.told_end AS expected, f.latest, coalesce(f.twice, 0) AS twice,
            CASE
                WHEN NOT l.ended THEN coalesce(f.latest_is_end, false)
                WHEN l.single THEN l.webhook_url IS NOT NULL AND l.told_end IS DISTINCT FROM f.latest
                    AND coalesce(l.told_end = ANY (l.webhook_events), true) OR f.latest <> l.told_end
                ELSE (l.webhook_url IS NOT NULL OR f.latest IS NOT NULL) AND l.told_end IS DISTINCT FROM f.latest
            END AS wrong
        FROM looked_at l LEFT JOIN (
            SELECT batch_id, (array_agg(type ORDER BY id DESC))[1] AS latest,
                (array_agg(is_end ORDER BY id DESC))[1] AS latest_is_end,
                count(*) FILTER (WHERE is_end AND after_end) AS twice
            FROM followed GROUP BY batch_id
        ) AS f ON f.batch_id = l.id
    )
    SELECT * FROM compared WHERE wrong OR twice > 0 ORDER BY id
""")
