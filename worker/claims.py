"""Claims: which work a worker does next, decided at the last moment and in PostgreSQL.

One short transaction takes the fairest piece of a plan's pending work. Its cost depends on how many accounts wait in
the plan and on the rows it takes, never on how many jobs are pending.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids
from common.database import owner_engine
from common.plans import plans
from worker.endings import STOPPED_BY_STATE, Stopped

LEASE_SECONDS = 20
# An output's length is unknown when a row is claimed; this many tokens a row stand in for it in the virtual time.
ASSUMED_OUTPUT_TOKENS = 256
BYTES_PER_TOKEN = 4
# Claims of a retry can be wide, and the whole range of a claim is read to find its rows: few such are taken at once.
MAX_RANGE_ROWS = 10_000


ClaimKey = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """One job to run under a claim."""

    seq: int
    custom_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """Some jobs of one batch, this worker's until the lease ends. `single` when a caller may be waiting for it."""

    id: UUID
    fence: int
    batch_id: UUID
    account_id: UUID
    api_key_id: UUID
    endpoint: str
    model: str | None
    single: bool
    jobs: tuple[ClaimedJob, ...]

    @property
    def key(self) -> "ClaimKey":
        """A claim under its fence: the same claim may be lost and taken again by one process."""
        return self.id, self.fence


def take(plan: str, rows: int, worker: str) -> tuple[list[Claim], bool]:
    """Leases up to `rows` jobs of the plan's fairest account to `worker`; the flag says whether the plan has more."""
    with owner_engine().begin() as connection:
        clock = connection.execute(_LOCK_CLOCK, {"plan": plan}).scalar_one()
        account = connection.execute(_NEXT_ACCOUNT, {"plan": plan, "clock": clock}).one_or_none()
        if account is None:
            return [], False
        leased = _lease(connection, plan, account.id, rows, worker)
        claims = _with_jobs(connection, leased)
        start = max(clock, account.virtual_time)
        end = start + _weighed_tokens(plan, claims)
        parameters = {"plan": plan, "account_id": account.id, "start": start, "end": end}
        more = connection.execute(_ADVANCE, parameters).scalar_one()
    return claims, bool(more)


def _lease(connection: Connection, plan: str, account_id: UUID, rows: int, worker: str) -> Sequence[Any]:
    """Single jobs go before batches, and the batch served longest ago before the others. Rows that came back from a
    lost worker go before rows never claimed."""
    candidates = connection.execute(_CANDIDATES, {"plan": plan, "account_id": account_id, "rows": rows}).all()
    singles = [batch for batch in candidates if batch.kind == "single"]
    chosen = singles or candidates[:1]
    chosen_ids = [batch.id for batch in chosen]
    lease = {"worker": worker, "seconds": LEASE_SECONDS, "rows": rows}
    leased: list[Any] = []
    if any(batch.returned for batch in chosen):
        # The batch before its claims, as whoever closes a cancelled batch does.
        connection.execute(_LOCK_BATCHES, {"batch_ids": chosen_ids})
        leased += connection.execute(_LEASE_RETURNED, {"batch_ids": chosen_ids, "max_range": MAX_RANGE_ROWS} | lease)
    fresh = [batch.id for batch in chosen if not batch.returned and batch.cursor < batch.total]
    if fresh:
        claim_ids = [ids.new_id() for _ in fresh]
        leased += connection.execute(_LEASE_FRESH, {"claim_ids": claim_ids, "batch_ids": fresh} | lease)
    return leased


def _with_jobs(connection: Connection, leased: Sequence[Any]) -> list[Claim]:
    """The bodies of the leased rows, less those that have a result already."""
    jobs: dict[UUID, list[ClaimedJob]] = {row.id: [] for row in leased}
    parameters = {
        "claim_ids": list(jobs),
        "batch_ids": [row.batch_id for row in leased],
        "firsts": [row.first_seq for row in leased],
        "ends": [row.end_seq for row in leased],
    }
    for row in connection.execute(_JOBS, parameters):
        jobs[row.claim_id].append(ClaimedJob(row.seq, row.custom_id, row.body))
    # A row can have its result before it is claimed: ingest fails rows without a prompt.
    fewer = {row.id: len(jobs[row.id]) for row in leased if len(jobs[row.id]) != row.pending}
    if fewer:
        connection.execute(_SET_PENDING, {"claim_ids": list(fewer), "pending": list(fewer.values())})
    return [
        Claim(
            row.id, row.fence, row.batch_id, row.account_id, row.api_key_id, row.endpoint, row.model,
            row.kind == "single", tuple(jobs[row.id]),
        )
        for row in leased
        if jobs[row.id]
    ]  # fmt: skip


def _weighed_tokens(plan: str, claims: Iterable[Claim]) -> float:
    tokens = sum(len(job.body) // BYTES_PER_TOKEN + ASSUMED_OUTPUT_TOKENS for claim in claims for job in claim.jobs)
    return tokens / plans()[plan].weight


def renew(held: Collection[ClaimKey]) -> dict[ClaimKey, Stopped | None]:
    """Extends the leases that a process holds. Returns those that are still its own, each with whether its batch is
    being stopped, and how. A lease that a process took without learning of it is not renewed, and comes back by
    itself."""
    with owner_engine().begin() as connection:
        rows = connection.execute(_RENEW, _columns(held) | {"seconds": LEASE_SECONDS})
        return {(row.id, row.fence): STOPPED_BY_STATE.get(row.state) for row in rows}


def _columns(keys: Collection[ClaimKey]) -> dict[str, Any]:
    return {"claim_ids": [claim_id for claim_id, _ in keys], "fences": [fence for _, fence in keys]}


def give_back(held: Collection[ClaimKey]) -> set[str]:
    """Makes the rows of these claims that have no result pending again. Returns the plans with new work."""
    if not held:
        return set()
    with owner_engine().begin() as connection:
        returned = connection.execute(_RETURN, _columns(held)).all()
        return _mark_returned(connection, returned)


def give_back_expired() -> set[str]:
    """Returns the claims whose lease has ended: their worker is gone. Returns the plans with new work."""
    with owner_engine().begin() as connection:
        return _mark_returned(connection, connection.execute(_RETURN_EXPIRED).all())


def _mark_returned(connection: Connection, returned: Sequence[Any]) -> set[str]:
    rows: dict[UUID, int] = {}
    for claim in returned:
        rows[claim.batch_id] = rows.get(claim.batch_id, 0) + claim.pending
    if not rows:
        return set()
    batch_ids = sorted(rows)
    connection.execute(_LOCK_BATCHES, {"batch_ids": batch_ids})
    parameters = {"batch_ids": batch_ids, "rows": [rows[batch_id] for batch_id in batch_ids]}
    return set(connection.execute(_ADD_RETURNED, parameters).scalars())


_CLAIMABLE = "state = 'in_progress' AND (cursor < total OR returned > 0)"

# Batches take turns; single jobs go in the order they came, also when a lost worker's come back.
_SERVED_AT = "CASE b.kind WHEN 'single' THEN b.served_at ELSE clock_timestamp() END"

# The lock also makes claims of one plan follow each other, so that each sees what the one before it took.
_LOCK_CLOCK = text(
    "INSERT INTO plan_clocks (plan) VALUES (:plan)"
    " ON CONFLICT (plan) DO UPDATE SET plan = excluded.plan RETURNING virtual_time"
)

# A skip scan: one index probe for each account that waits, however many jobs it has.
_NEXT_ACCOUNT = text(f"""
    WITH RECURSIVE waiting AS (
        (SELECT account_id FROM batches WHERE plan = :plan AND {_CLAIMABLE} ORDER BY account_id LIMIT 1)
        UNION ALL
        SELECT (SELECT b.account_id FROM batches b
                WHERE b.plan = :plan AND b.account_id > waiting.account_id AND {_CLAIMABLE}
                ORDER BY b.account_id LIMIT 1)
        FROM waiting WHERE waiting.account_id IS NOT NULL
    )
    SELECT a.id, a.virtual_time FROM waiting JOIN accounts a ON a.id = waiting.account_id
    ORDER BY greatest(a.virtual_time, :clock), a.virtual_time, a.id LIMIT 1
""")

_CANDIDATES = text(f"""
    SELECT id, kind, cursor, total, returned FROM batches
    WHERE plan = :plan AND account_id = :account_id AND {_CLAIMABLE}
    ORDER BY (kind <> 'single'), served_at, id LIMIT :rows
""")

_LEASE_RETURNED = text(f"""
    WITH again AS (
        SELECT id FROM (
            SELECT id, sum(pending) OVER above - pending AS before,
                sum(end_seq - first_seq) OVER above - (end_seq - first_seq) AS range_before
            FROM claims WHERE state = 'returned' AND batch_id = ANY(:batch_ids)
            WINDOW above AS (ORDER BY batch_id, first_seq)
        ) AS ordered WHERE before < :rows AND range_before < :max_range
    ), leased AS (
        UPDATE claims c SET state = 'leased', fence = c.fence + 1, worker = :worker,
            lease_until = clock_timestamp() + make_interval(secs => :seconds)
        FROM again, batches b WHERE c.id = again.id AND b.id = c.batch_id AND b.state = 'in_progress'
        RETURNING c.id, c.batch_id, c.first_seq, c.end_seq, c.fence, c.pending
    ), counted AS (
        UPDATE batches b SET returned = b.returned - n.pending, served_at = {_SERVED_AT}
        FROM (SELECT batch_id, sum(pending) AS pending FROM leased GROUP BY batch_id) n WHERE b.id = n.batch_id
        RETURNING b.id
    )
    SELECT l.id, l.batch_id, l.first_seq, l.end_seq, l.fence, l.pending, b.account_id, b.api_key_id,
        b.endpoint, b.model, b.kind
    FROM leased l JOIN batches b ON b.id = l.batch_id JOIN counted ON counted.id = b.id
""")

_LEASE_FRESH = text(f"""
    WITH taken AS (
        UPDATE batches b
        SET cursor = least(b.total, before.cursor + :rows), served_at = {_SERVED_AT},
            started_at = coalesce(b.started_at, clock_timestamp())
        FROM (SELECT wanted.claim_id, o.id, o.cursor
              FROM unnest(CAST(:claim_ids AS uuid[]), CAST(:batch_ids AS uuid[])) AS wanted (claim_id, batch_id)
              JOIN batches o ON o.id = wanted.batch_id) before
        WHERE b.id = before.id AND b.state = 'in_progress'
        RETURNING before.claim_id, b.id, before.cursor AS first_seq, b.cursor AS end_seq,
            b.account_id, b.api_key_id, b.endpoint, b.model, b.kind
    ), leased AS (
        INSERT INTO claims (id, batch_id, account_id, first_seq, end_seq, pending, state, worker, lease_until)
        SELECT claim_id, id, account_id, first_seq, end_seq, end_seq - first_seq, 'leased', :worker,
            clock_timestamp() + make_interval(secs => :seconds)
        FROM taken RETURNING id, fence, pending
    )
    SELECT l.id, l.fence, l.pending, t.id AS batch_id, t.first_seq, t.end_seq, t.account_id, t.api_key_id,
        t.endpoint, t.model, t.kind
    FROM leased l JOIN taken t ON t.claim_id = l.id
""")

_JOBS = text("""
    SELECT c.id AS claim_id, j.seq, j.custom_id, j.body
    FROM unnest(CAST(:claim_ids AS uuid[]), CAST(:batch_ids AS uuid[]), CAST(:firsts AS int[]), CAST(:ends AS int[]))
        AS c (id, batch_id, first_seq, end_seq)
    JOIN jobs j ON j.batch_id = c.batch_id AND j.seq >= c.first_seq AND j.seq < c.end_seq
    WHERE NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.seq = j.seq)
    ORDER BY c.id, j.seq
""")

_SET_PENDING = text("""
    WITH counted AS (
        SELECT * FROM unnest(CAST(:claim_ids AS uuid[]), CAST(:pending AS int[])) AS n (id, pending)
    ), ended AS (
        DELETE FROM claims c USING counted n WHERE c.id = n.id AND n.pending = 0
    )
    UPDATE claims c SET pending = n.pending FROM counted n
    WHERE c.id = n.id AND n.pending > 0 AND c.pending <> n.pending
""")

# Tells whether the plan has more work.
_ADVANCE = text(f"""
    WITH clock AS (UPDATE plan_clocks SET virtual_time = :start WHERE plan = :plan)
    UPDATE accounts SET virtual_time = :end WHERE id = :account_id
    RETURNING EXISTS (SELECT 1 FROM batches WHERE plan = :plan AND {_CLAIMABLE})
""")

_RENEW = text("""
    UPDATE claims c SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
    FROM (
        SELECT k.id FROM claims k
        JOIN unnest(CAST(:claim_ids AS uuid[]), CAST(:fences AS bigint[])) AS held (id, fence)
            ON k.id = held.id AND k.fence = held.fence
        WHERE k.state = 'leased' ORDER BY k.id FOR UPDATE OF k
    ) AS mine, batches b
    WHERE c.id = mine.id AND b.id = c.batch_id
    RETURNING c.id, c.fence, b.state
""")

_RETURN = text("""
    UPDATE claims SET state = 'returned' WHERE id IN (
        SELECT c.id FROM claims c
        JOIN unnest(CAST(:claim_ids AS uuid[]), CAST(:fences AS bigint[])) AS mine (id, fence)
            ON c.id = mine.id AND c.fence = mine.fence
        WHERE c.state = 'leased' ORDER BY c.id FOR UPDATE OF c
    ) RETURNING batch_id, pending
""")

_RETURN_EXPIRED = text("""
    UPDATE claims SET state = 'returned' WHERE id IN (
        SELECT id FROM claims WHERE state = 'leased' AND lease_until < clock_timestamp()
        ORDER BY lease_until LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) RETURNING batch_id, pending
""")

_LOCK_BATCHES = text("SELECT id FROM batches WHERE id = ANY(:batch_ids) ORDER BY id FOR UPDATE")

_ADD_RETURNED = text("""
    UPDATE batches b SET returned = b.returned + n.rows
    FROM unnest(CAST(:batch_ids AS uuid[]), CAST(:rows AS int[])) AS n (id, rows)
    WHERE b.id = n.id RETURNING b.plan
""")
