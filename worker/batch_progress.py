"""Telling how far batches are: an event `batch.progress` for those of which somebody asked to be told.

A pass tells of a batch in progress when another tenth of its rows has ended since the last time, or, 30 seconds after
it, any row has. What has been told stands in the batch, written with the event.
"""

from sqlalchemy import text

from common import queue
from common.database import owner_engine

AT_ONCE = 500
SECONDS = 30


def tell() -> None:
    """One pass over all that are due. The others, and what somebody is writing just now, are left to the next."""
    with owner_engine().begin() as connection:
        told = connection.execute(_TELL, {"limit": AT_ONCE, "seconds": SECONDS}).rowcount
    if told:
        queue.announce_deliveries()


# Both ways of asking have an index, so that a pass costs what is asked for. After a retry fewer rows have ended than
# were told: that is progress to tell, too.
_TELL = text("""
    WITH asked AS (
        SELECT b.id FROM batches b WHERE b.state = 'in_progress' AND 'batch.progress' = ANY (b.webhook_events)
        UNION
        SELECT b.id FROM batches b
        WHERE b.state = 'in_progress' AND b.kind <> 'single' AND b.account_id IN (
            SELECT e.account_id FROM webhook_endpoints e
            WHERE e.origin = 'endpoint' AND e.state = 'enabled' AND 'batch.progress' = ANY (e.event_types)
        )
    ), due AS MATERIALIZED (
        SELECT b.id, b.succeeded + b.failed + b.cancelled + b.expired AS ended
        FROM asked JOIN batches b ON b.id = asked.id
        WHERE b.state = 'in_progress' AND NOT b.retrying
            AND b.succeeded + b.failed + b.cancelled + b.expired <> b.progress_told
            AND (abs(b.succeeded + b.failed + b.cancelled + b.expired - b.progress_told) >= b.total / 10.0
                OR coalesce(b.progress_told_at, b.in_progress_at)
                    <= clock_timestamp() - make_interval(secs => :seconds))
        ORDER BY b.id LIMIT :limit FOR UPDATE OF b SKIP LOCKED
    ), told AS (
        UPDATE batches b SET progress_told = due.ended, progress_told_at = clock_timestamp()
        FROM due WHERE b.id = due.id
        RETURNING b.id, b.account_id, b.webhook_url, b.webhook_events, jsonb_build_object(
            'id', 'batch_' || replace(b.id::text, '-', ''), 'request_counts', jsonb_build_object(
                'total', b.total, 'completed', b.succeeded, 'failed', b.failed + b.cancelled + b.expired)) AS data
    )
    SELECT write_event(account_id, 'batch.progress', id, data, true, webhook_url,
        coalesce('batch.progress' = ANY (webhook_events), false))
    FROM told
""")
