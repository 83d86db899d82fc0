"""Claims: which work a worker does next, decided at the last moment and in PostgreSQL.

One short transaction takes the fairest piece of a plan's pending work. Its cost depends on how many accounts wait in
the plan and on the rows it takes, never on how many jobs are pending.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from common import ids
from common.database import driver_as_owner, named
from common.estimates import BYTES_PER_TOKEN
from common.plans import plans
from common.sql_arrays import arrays
from worker.fairest import CLAIMABLE, Wanted, candidates, next_account

LEASE_SECONDS = 20
# An output's length is unknown when a row is claimed; this many tokens a row stand in for it in the virtual time.
ASSUMED_OUTPUT_TOKENS = 256
# Claims of a retry can be wide, and the whole range of a claim is read to find its rows: few such are taken at once.
MAX_RANGE_ROWS = 10_000
# Of claims while the platform has a cap. Its row would not do: whoever records holds a batch and waits for that row.
PLATFORM_ROOM_LOCK = 7_201_004


ClaimKey = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """One job to run under a claim."""

    seq: int
    custom_id: str
    body: bytes
    # What is held for it until its result is there; the cost is nano-dollars.
    tokens: int = 0
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Some jobs of one batch, this worker's until the lease ends. `single` when a caller may be waiting for it, and
    `capped` when what its jobs may cost is counted against a cap. `deaths` is how often a process died with it. Its
    calls are dropped at `ends_at`, on this process's monotonic clock: a single job's deadline."""

    id: UUID
    fence: int
    batch_id: UUID
    account_id: UUID
    api_key_id: UUID
    endpoint: str
    model: str | None
    single: bool
    capped: bool
    jobs: tuple[ClaimedJob, ...]
    deaths: int = 0
    ends_at: float | None = None

    @property
    def key(self) -> "ClaimKey":
        """A claim under its fence: the same claim may be lost and taken again by one process."""
        return self.id, self.fence


class Taken(NamedTuple):
    """`more`: the plan has more to claim. `blocked`: it has some that can be claimed only when jobs that run now have
    ended, for a limit or a cap."""

    claims: list[Claim]
    more: bool
    blocked: bool


def take(plan: str, rows: int, worker: str, congested: Collection[str] = (), *, singles: bool = False) -> Taken:
    """Leases up to `rows` jobs of the plan's fairest account to `worker`, or, where only `singles` are wanted, of the
    fairest that has single jobs; none while the platform is stopped, and none of the models that are congested there:
    their jobs would only wait in the place of others that could go."""
    wanted = Wanted(singles, congested)
    with driver_as_owner() as connection:
        with connection.pipeline():
            # With it goes what begins the transaction.
            locked = named(connection, _LOCK_CLOCK, {"plan": plan})
        (plan_row,) = locked
        if plan_row.stopped:
            return Taken([], more=False, blocked=False)
        room = _platform_room(connection) if plan_row.hard_cap is not None else None
        if room is not None and room <= 0:
            return Taken([], more=False, blocked=True)
        account, rows, blocked = next_account(connection, plan, plan_row.virtual_time, rows, wanted)
        if account is None:
            return Taken([], more=False, blocked=blocked or bool(congested))
        leased, held_back = _lease(connection, plan, account.id, rows, worker, room, wanted)
        claims = _with_jobs(connection, leased, room is not None)
        start = max(plan_row.virtual_time, account.virtual_time)
        end = start + _weighed_tokens(plan, claims)
        parameters = {"plan": plan, "account_id": account.id, "start": start, "end": end}
        with connection.pipeline():
            advanced = named(connection, _ADVANCE, parameters)
            connection.commit()
        (advance,) = advanced
    return Taken(claims, advance.more, blocked or held_back)


def _platform_room(connection: Connection) -> int:
    """What may be claimed below the platform's cap, in nano-dollars, if all that runs costs what it may. It is nobody
    else's until the commit: claims of all plans follow each other from here."""
    connection.execute(_LOCK_PLATFORM_ROOM, {"lock": PLATFORM_ROOM_LOCK})
    (platform,) = named(connection, _PLATFORM_ROOM, {})
    return int(platform.room)


def _lease(
    connection: Connection,
    plan: str,
    account_id: UUID,
    rows: int,
    worker: str,
    platform_room: int | None,
    wanted: Wanted,
) -> tuple[Sequence[Any], bool]:
    """Single jobs go before batches, and the batch served longest ago before the others. Rows that came back from a
    lost worker go before rows never claimed. The flag says that a cap leaves no room until jobs that run have ended."""
    found = candidates(connection, plan, account_id, rows, wanted)
    chosen = [batch for batch in found if batch.kind == "single"] or found[:1]
    chosen_ids = [batch.id for batch in chosen]
    room = _room(connection, chosen, platform_room)
    if room is not None:
        if room <= 0:
            return [], True
        # What lies apart is taken a claim at a time, and what follows as far as there is room.
        rows = 1 if chosen[0].returned else _affordable(connection, chosen, rows, room)
        chosen = chosen[:rows]
    lease = {"worker": worker, "seconds": LEASE_SECONDS, "rows": rows}
    leased: list[Any] = []
    if any(batch.returned for batch in chosen):
        # The batch before its claims, as whoever closes a cancelled batch does.
        connection.execute(LOCK_BATCHES, {"batch_ids": chosen_ids})
        leased += named(connection, _LEASE_RETURNED, {"batch_ids": chosen_ids, "max_range": MAX_RANGE_ROWS} | lease)
    fresh = [batch.id for batch in chosen if not batch.returned and batch.cursor < batch.total]
    if fresh:
        claim_ids = [ids.new_id() for _ in fresh]
        leased += named(connection, _LEASE_FRESH, arrays({"claim_ids": claim_ids, "batch_ids": fresh}) | lease)
    return leased, False


def _room(connection: Connection, chosen: Sequence[Any], platform_room: int | None) -> int | None:
    """What the chosen jobs may cost, in nano-dollars; None where no cap is watched. A batch whose cap is reached is
    paused, and one that only has no room for now is held back until some of its jobs have ended."""
    if not chosen or chosen[0].max_cost is None:
        return platform_room
    # Whoever ends its jobs or moves its cap holds the batch, so from here to the commit neither happens.
    (batch,) = named(connection, _LOCK_COST, {"batch_id": chosen[0].id})
    if batch.max_cost is None:
        return platform_room
    # A statement of its own: one that waited for the lock would see the claims as they were before.
    (running,) = named(connection, _RUNNING_COST, {"batch_id": batch.id})
    room = int(batch.max_cost) - int(batch.cost) - int(running.cost)
    if room <= 0:
        connection.execute(_PAUSE if batch.cost >= batch.max_cost else _HOLD_BACK, {"batch_id": batch.id})
    return room if platform_room is None else min(room, platform_room)


def _affordable(connection: Connection, chosen: Sequence[Any], rows: int, room: int) -> int:
    """How many of the next rows there is room for: at least one, so that a cap is passed by one call at most."""
    parameters: dict[str, Any] = {"rows": rows, "room": room}
    if chosen[0].kind == "single":
        found = named(connection, _AFFORDABLE_SINGLES, parameters | {"ids": [batch.id for batch in chosen]})
    else:
        parameters |= {"batch_id": chosen[0].id, "cursor": chosen[0].cursor}
        found = named(connection, _AFFORDABLE_ROWS, parameters)
    (affordable,) = found
    return int(affordable.rows)


def _with_jobs(connection: Connection, leased: Sequence[Any], platform_capped: bool) -> list[Claim]:
    """The bodies of the leased rows, less those that have a result already."""
    jobs: dict[UUID, list[ClaimedJob]] = {row.id: [] for row in leased}
    columns: dict[str, list[Any]] = {
        "claim_ids": list(jobs),
        "batch_ids": [row.batch_id for row in leased],
        "firsts": [row.first_seq for row in leased],
        "ends": [row.end_seq for row in leased],
    }
    for row in named(connection, _JOBS, arrays(columns)):
        jobs[row.claim_id].append(ClaimedJob(row.seq, row.custom_id, row.body, row.tokens, row.cost))
    # A row can have its result before it is claimed: ingest fails rows without a prompt.
    fewer = {row.id: len(jobs[row.id]) for row in leased if len(jobs[row.id]) != row.pending}
    if fewer:
        connection.execute(_SET_PENDING, arrays({"claim_ids": list(fewer), "pending": list(fewer.values())}))
    capped = {row.id for row in leased if platform_capped or row.max_cost is not None}
    if capped:
        costs = [sum(job.cost for job in jobs[claim_id]) for claim_id in capped]
        connection.execute(_SET_COST, arrays({"claim_ids": list(capped), "costs": costs}))
    return [
        Claim(
            row.id, row.fence, row.batch_id, row.account_id, row.api_key_id, row.endpoint, row.model,
            row.kind == "single", row.id in capped, tuple(jobs[row.id]), row.deaths, _ends_at(row.seconds_left),
        )
        for row in leased
        if jobs[row.id]
    ]  # fmt: skip


def _ends_at(seconds_left: float | None) -> float | None:
    # By the database's clock until here: this machine's may be wrong.
    return None if seconds_left is None else time.monotonic() + seconds_left


def _weighed_tokens(plan: str, claims: Iterable[Claim]) -> float:
    tokens = sum(len(job.body) // BYTES_PER_TOKEN + ASSUMED_OUTPUT_TOKENS for claim in claims for job in claim.jobs)
    return tokens / plans()[plan].weight


# A batch's window is the sweep's to watch: it ends for all processes that have rows of it at once.
_SECONDS_LEFT = """CASE b.kind WHEN 'single' THEN
    extract(epoch FROM b.expires_at - clock_timestamp())::double precision END AS seconds_left"""

# Batches take turns; single jobs go in the order they came, also when a lost worker's come back.
_SERVED_AT = "CASE b.kind WHEN 'single' THEN b.served_at ELSE clock_timestamp() END"

# The lock also makes claims of one plan follow each other, so that each sees what the one before it took.
_LOCK_CLOCK = """
    INSERT INTO plan_clocks (plan) VALUES (%(plan)s) ON CONFLICT (plan) DO UPDATE SET plan = excluded.plan
    RETURNING virtual_time, (SELECT stopped_at IS NOT NULL FROM platform) AS stopped,
        (SELECT hard_cap FROM platform) AS hard_cap
"""

_LEASE_RETURNED = f"""
    WITH again AS (
        SELECT id FROM (
            SELECT id, sum(pending) OVER above - pending AS before,
                sum(end_seq - first_seq) OVER above - (end_seq - first_seq) AS range_before
            FROM claims WHERE state = 'returned' AND batch_id = ANY(%(batch_ids)s)
            WINDOW above AS (ORDER BY batch_id, first_seq)
        ) AS ordered WHERE before < %(rows)s AND range_before < %(max_range)s
    ), leased AS (
        UPDATE claims c SET state = 'leased', fence = c.fence + 1, worker = %(worker)s,
            lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
        FROM again, batches b WHERE c.id = again.id AND b.id = c.batch_id AND b.state = 'in_progress'
        RETURNING c.id, c.batch_id, c.first_seq, c.end_seq, c.fence, c.pending, c.deaths
    ), counted AS (
        UPDATE batches b SET returned = b.returned - n.pending, served_at = {_SERVED_AT}
        FROM (SELECT batch_id, sum(pending) AS pending FROM leased GROUP BY batch_id) n WHERE b.id = n.batch_id
        RETURNING b.id
    )
    SELECT l.id, l.batch_id, l.first_seq, l.end_seq, l.fence, l.pending, l.deaths, b.account_id, b.api_key_id,
        b.endpoint, b.model, b.kind, b.max_cost, {_SECONDS_LEFT}
    FROM leased l JOIN batches b ON b.id = l.batch_id JOIN counted ON counted.id = b.id
"""

_LEASE_FRESH = f"""
    WITH taken AS (
        UPDATE batches b
        SET cursor = least(b.total, before.cursor + %(rows)s), served_at = {_SERVED_AT},
            started_at = coalesce(b.started_at, clock_timestamp())
        FROM (SELECT wanted.claim_id, o.id, o.cursor
              FROM unnest(%(claim_ids)s::uuid[], %(batch_ids)s::uuid[]) AS wanted (claim_id, batch_id)
              JOIN batches o ON o.id = wanted.batch_id) before
        WHERE b.id = before.id AND b.state = 'in_progress'
        RETURNING before.claim_id, b.id, before.cursor AS first_seq, b.cursor AS end_seq,
            b.account_id, b.api_key_id, b.endpoint, b.model, b.kind, b.max_cost, {_SECONDS_LEFT}
    ), leased AS (
        INSERT INTO claims (id, batch_id, account_id, first_seq, end_seq, pending, state, worker, lease_until)
        SELECT claim_id, id, account_id, first_seq, end_seq, end_seq - first_seq, 'leased', %(worker)s,
            clock_timestamp() + make_interval(secs => %(seconds)s)
        FROM taken RETURNING id, fence, pending
    )
    SELECT l.id, l.fence, l.pending, 0 AS deaths, t.id AS batch_id, t.first_seq, t.end_seq, t.account_id, t.api_key_id,
        t.endpoint, t.model, t.kind, t.max_cost, t.seconds_left
    FROM leased l JOIN taken t ON t.claim_id = l.id
"""

_JOBS = """
    SELECT c.id AS claim_id, j.seq, j.custom_id, j.body, j.tokens, j.cost
    FROM unnest(%(claim_ids)s::uuid[], %(batch_ids)s::uuid[], %(firsts)s::int[], %(ends)s::int[])
        AS c (id, batch_id, first_seq, end_seq)
    JOIN jobs j ON j.batch_id = c.batch_id AND j.seq >= c.first_seq AND j.seq < c.end_seq
    WHERE NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.seq = j.seq)
    ORDER BY c.id, j.seq
"""

_SET_PENDING = """
    WITH counted AS (
        SELECT * FROM unnest(%(claim_ids)s::uuid[], %(pending)s::int[]) AS n (id, pending)
    ), ended AS (
        DELETE FROM claims c USING counted n WHERE c.id = n.id AND n.pending = 0
    )
    UPDATE claims c SET pending = n.pending FROM counted n
    WHERE c.id = n.id AND n.pending > 0 AND c.pending <> n.pending
"""

_LOCK_PLATFORM_ROOM = "SELECT pg_advisory_xact_lock(%(lock)s)"

_PLATFORM_ROOM = """
    SELECT hard_cap - CASE WHEN month = date_trunc('month', now(), 'UTC') THEN spent ELSE 0 END
        - (SELECT coalesce(sum(cost), 0) FROM claims WHERE state = 'leased') AS room
    FROM platform
"""

_LOCK_COST = "SELECT id, cost, max_cost FROM batches WHERE id = %(batch_id)s FOR UPDATE"

_RUNNING_COST = "SELECT coalesce(sum(cost), 0) AS cost FROM claims WHERE batch_id = %(batch_id)s AND state = 'leased'"

_PAUSE = """
    UPDATE batches SET state = 'paused', paused_reason = 'max_cost', paused_at = clock_timestamp()
    WHERE id = %(batch_id)s AND state = 'in_progress'
"""

_HOLD_BACK = "UPDATE batches SET held_back = true WHERE id = %(batch_id)s AND state = 'in_progress'"

_AFFORDABLE_ROWS = """
    SELECT greatest(1, count(*)) AS rows FROM (
        SELECT sum(cost) OVER (ORDER BY seq) - cost AS before FROM jobs
        WHERE batch_id = %(batch_id)s AND seq >= %(cursor)s AND seq < %(cursor)s + %(rows)s
    ) AS next WHERE before < %(room)s
"""

_AFFORDABLE_SINGLES = """
    SELECT greatest(1, count(*)) AS rows FROM (
        SELECT sum(j.cost) OVER (ORDER BY wanted.position) - j.cost AS before
        FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS wanted (id, position)
        JOIN jobs j ON j.batch_id = wanted.id AND j.seq = 0 WHERE wanted.position <= %(rows)s
    ) AS next WHERE before < %(room)s
"""

_SET_COST = """
    UPDATE claims c SET cost = n.cost FROM unnest(%(claim_ids)s::uuid[], %(costs)s::bigint[]) AS n (id, cost)
    WHERE c.id = n.id
"""

# Tells whether the plan has more work.
_ADVANCE = f"""
    WITH clock AS (UPDATE plan_clocks SET virtual_time = %(start)s WHERE plan = %(plan)s)
    UPDATE accounts SET virtual_time = %(end)s WHERE id = %(account_id)s
    RETURNING EXISTS (SELECT 1 FROM batches WHERE plan = %(plan)s AND {CLAIMABLE}) AS more
"""

LOCK_BATCHES = "SELECT id FROM batches WHERE id = ANY(%(batch_ids)s) ORDER BY id FOR UPDATE"
