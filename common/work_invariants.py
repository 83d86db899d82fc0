"""What must be true of everything together: quotas, claims, rows without a batch, and that nothing waits unheard of.
As in common/invariants.py, each check reads one snapshot and returns findings."""

from typing import Any
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy import Connection, text

from common import ids, queue
from common.batch_input import INGEST_LOCK
from common.invariants import Finding
from common.workers import ALIVE_SECONDS

# What a sweep mends in seconds is off once it has lasted so long.
OVERDUE_SECONDS = 60
# Leases are renewed for much less.
LONGEST_LEASE_SECONDS = 120
SHOWN = 100


def quotas(connection: Connection, account_id: UUID | None = None) -> list[Finding]:
    """What accounts used and hold, by period, against their batches; or one account alone. Reads every batch's row."""
    found = []
    parameters = {"account_id": account_id}
    for row in connection.execute(_QUOTAS, parameters):
        subject = f"{ids.show('acct_', row.account_id)} from {row.period_start:%Y-%m-%d}"
        names = ("reserved", "cost_reserved") if row.moved else ("reserved", "cost_reserved", "used", "cost_used")
        found += _differences(row, names, subject)
    for row in connection.execute(_QUOTAS_OF_MOVED, parameters):
        found += _differences(row, ("used", "cost_used"), f"{ids.show('acct_', row.account_id)} in all periods")
    return found


def _differences(row: Any, names: tuple[str, ...], subject: str) -> list[Finding]:
    return [
        Finding("quotas", subject, f"{name} is {getattr(row, name)}; its batches come to {getattr(row, f'sum_{name}')}")
        for name in names
        if getattr(row, name) != getattr(row, f"sum_{name}")
    ]


def claims(connection: Connection) -> list[Finding]:
    """Claims of batches that have ended, of rows that are done, under leases that nobody keeps, or over each other."""
    found = []
    for claim in connection.execute(_CLAIMS, {"overdue": OVERDUE_SECONDS, "longest": LONGEST_LEASE_SECONDS}):
        subject = f"{claim.id} of {ids.show('batch_', claim.batch_id)}"
        if claim.ended:
            found.append(Finding("claims", subject, f"the batch is {claim.batch_state}"))
        if claim.pending != claim.open_rows:
            found.append(
                Finding("claims", subject, f"pending is {claim.pending}; {claim.open_rows} rows have no result")
            )
        if claim.overdue:
            problem = f"its lease ended {claim.seconds:.0f} s ago, and no sweep has returned it ({claim.worker})"
            found.append(Finding("claims", subject, problem))
        if claim.too_long:
            found.append(Finding("claims", subject, f"its lease ends only in {-claim.seconds:.0f} s ({claim.worker})"))
        if claim.overlapping:
            found.append(Finding("claims", subject, "another claim has rows of its range without a result"))
    return found


def orphans(connection: Connection) -> list[Finding]:
    """Jobs, results and usage records of batches that there are not. Reads an index of each table once."""
    return [
        Finding("orphans", ids.show("batch_", row.batch_id), f"{row.rows} {table} of a batch that there is not")
        for table, statement in _ORPHANS.items()
        for row in connection.execute(statement, {"limit": SHOWN})
    ]


def pending_work(connection: Connection) -> list[Finding]:
    """Work that nobody will do: no ticket or task tells of it, and no worker lives that would notice. Asks Redis, which
    has no snapshots, after the database: what is told of there may have begun since."""
    parameters = {"lock": INGEST_LOCK, "seconds": OVERDUE_SECONDS, "alive": ALIVE_SECONDS}
    state = connection.execute(_PLATFORM, parameters).one()
    plans = list(connection.execute(_PLANS_WITH_WORK)) if not state.stopped else []
    inputs = list(connection.execute(_UNREAD, parameters).scalars())
    stopped = list(connection.execute(_UNCLOSED, parameters).scalars())
    try:
        tickets = queue.waiting()
        reading, closing = (queue.batches_waiting(name) for name in (queue.INGESTS_QUEUE, queue.TASKS_QUEUE))
    except RedisError as error:
        return [Finding("tickets", "Redis", f"does not answer, so that tickets and tasks are unknown: {error}")]
    found = [
        Finding("tickets", f"plan {row.plan}", f"{row.rows} rows wait, and there is no ticket and no living worker")
        for row in plans
        if not state.workers and not tickets.get(queue.plan_queue(row.plan))
    ]
    found += [
        Finding("ingests", ids.show("batch_", batch_id), f"its input is not read, nor will be ({OVERDUE_SECONDS} s)")
        for batch_id in inputs
        if batch_id not in reading
    ]
    found += [
        Finding("closing", ids.show("batch_", batch_id), f"has stopped and nobody ends its rows ({OVERDUE_SECONDS} s)")
        for batch_id in stopped
        if batch_id not in closing
    ]
    return found


# A batch that was retried in a later period has receipts of both: for its account, periods count together alone.
_SUMS = """
    WITH sums AS (
        SELECT b.account_id, b.period_start, sum(b.prompt_tokens + b.completion_tokens) AS used,
            sum(b.cost) AS cost_used, sum(b.reserved_tokens) AS reserved,
            sum(CASE WHEN b.max_cost IS NULL THEN b.reserved_cost
                ELSE greatest(0, least(b.reserved_cost, b.max_cost - b.cost)) END) AS cost_reserved,
            bool_or(b.kind <> 'single' AND b.created_at < b.period_start) AS moved
        FROM batches b
        WHERE b.period_start IS NOT NULL AND (CAST(:account_id AS uuid) IS NULL OR b.account_id = :account_id)
        GROUP BY b.account_id, b.period_start
    ), moved AS (
        SELECT account_id FROM sums GROUP BY account_id HAVING bool_or(moved)
    ), compared AS (
        SELECT account_id, period_start, account_id IN (SELECT account_id FROM moved) AS moved,
            coalesce(q.used, 0) AS used, coalesce(q.reserved, 0) AS reserved,
            coalesce(q.cost_used, 0) AS cost_used, coalesce(q.cost_reserved, 0) AS cost_reserved,
            coalesce(s.used, 0) AS sum_used, coalesce(s.reserved, 0) AS sum_reserved,
            coalesce(s.cost_used, 0) AS sum_cost_used, coalesce(s.cost_reserved, 0) AS sum_cost_reserved
        FROM (
            SELECT * FROM quotas WHERE CAST(:account_id AS uuid) IS NULL OR account_id = :account_id
        ) AS q FULL JOIN sums s USING (account_id, period_start)
    )
"""

_QUOTAS = text(f"""
    {_SUMS}
    SELECT * FROM compared WHERE (reserved, cost_reserved) IS DISTINCT FROM (sum_reserved, sum_cost_reserved)
        OR NOT moved AND (used, cost_used) IS DISTINCT FROM (sum_used, sum_cost_used)
    ORDER BY account_id, period_start
""")

_QUOTAS_OF_MOVED = text(f"""
    {_SUMS}
    SELECT account_id, sum(used) AS used, sum(cost_used) AS cost_used, sum(sum_used) AS sum_used,
        sum(sum_cost_used) AS sum_cost_used
    FROM compared WHERE moved GROUP BY account_id
    HAVING (sum(used), sum(cost_used)) IS DISTINCT FROM (sum(sum_used), sum(sum_cost_used)) ORDER BY account_id
""")

_CLAIMS = text("""
    SELECT * FROM (
        SELECT c.id, c.batch_id, c.worker, c.pending, b.state AS batch_state, b.ended_at IS NOT NULL AS ended,
            open.rows AS open_rows, extract(epoch FROM clock_timestamp() - c.lease_until) AS seconds,
            c.state = 'leased' AND c.lease_until < clock_timestamp() - make_interval(secs => :overdue) AS overdue,
            c.state = 'leased' AND c.lease_until > clock_timestamp() + make_interval(secs => :longest) AS too_long,
            EXISTS (
                SELECT 1 FROM claims o WHERE o.batch_id = c.batch_id AND o.id <> c.id
                    AND o.first_seq < c.end_seq AND o.end_seq > c.first_seq
            ) AS overlapping
        FROM claims c JOIN batches b ON b.id = c.batch_id, LATERAL (
            SELECT c.end_seq - c.first_seq - count(*) AS rows FROM results r
            WHERE r.batch_id = c.batch_id AND r.seq >= c.first_seq AND r.seq < c.end_seq
        ) AS open
    ) AS claim WHERE ended OR pending <> open_rows OR overdue OR too_long OR overlapping
""")

_ORPHANS = {
    table: text(f"""
        SELECT batch_id, count(*) AS rows FROM {table} t
        WHERE NOT EXISTS (SELECT 1 FROM batches b WHERE b.id = t.batch_id)
        GROUP BY batch_id ORDER BY batch_id LIMIT :limit
    """)
    for table in ("jobs", "results", "usage_records")
}

_PLATFORM = text("""
    SELECT stopped_at IS NOT NULL AS stopped, (
        SELECT count(*) FROM workers WHERE seen_at > clock_timestamp() - make_interval(secs => :alive)
    ) AS workers
    FROM platform
""")

_PLANS_WITH_WORK = text("""
    SELECT plan, sum(total - cursor + returned) AS rows FROM batches
    WHERE state = 'in_progress' AND (cursor < total OR returned > 0) AND NOT held_back GROUP BY plan ORDER BY plan
""")

# Whoever reads an input holds a lock that names the batch by a hash.
_UNREAD = text("""
    SELECT id FROM batches b
    WHERE state = 'validating' AND created_at < clock_timestamp() - make_interval(secs => :seconds) AND NOT EXISTS (
        SELECT 1 FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid::bigint = :lock
            AND l.objid::bigint = hashtext(b.id::text)::bigint & 4294967295
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) ORDER BY created_at
""")

_UNCLOSED = text("""
    SELECT id FROM batches
    WHERE state IN ('cancelling', 'expiring') AND (cursor < total OR returned > 0) AND NOT retrying
        AND coalesce(expiring_at, cancelling_at) < clock_timestamp() - make_interval(secs => :seconds)
    ORDER BY id
""")
