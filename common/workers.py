"""The worker processes that live, as they say so in PostgreSQL: there an operator finds them also when Redis is away or
has been emptied, and asks them to drain, whichever host they are on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from common import audit
from common.audit import Actor
from common.database import as_owner
from common.errors import NotFound

log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0
# As long as its leases: what it holds is then taken from it, and it counts as dead.
ALIVE_SECONDS = 20
FORGOTTEN_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class Worker:
    """A process, alive where it was heard of lately; `lease_until` is the end of the first of its leases."""

    name: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    draining: bool
    alive: bool
    claims: int
    rows: int
    lease_until: datetime | None


def beat(name: str, host: str, pid: int) -> bool:
    """Says that a worker lives. Returns whether it is asked to drain."""
    with as_owner() as connection:
        connection.execute(_FORGET, {"seconds": FORGOTTEN_SECONDS})
        return bool(connection.execute(_BEAT, {"name": name, "host": host, "pid": pid}).scalar_one())


def leave(name: str) -> None:
    """The worker ends. Where the database is away it stays listed for a while."""
    try:
        with as_owner() as connection:
            connection.execute(_LEAVE, {"name": name})
    except SQLAlchemyError as error:
        log.warning("the worker stays listed for a while", extra={"error": str(error)})


def known() -> Sequence[Worker]:
    """The workers that were heard of within an hour, and the holders of leases that nobody knows, oldest first."""
    with as_owner() as connection:
        return [Worker(**row._mapping) for row in connection.execute(_KNOWN, {"seconds": ALIVE_SECONDS})]


def drain(actor: Actor, name: str | None) -> list[str]:
    """Asks one worker, or all that live, to take nothing new, finish and end. Returns their names; they hear of it
    within seconds. Raises NotFound for a name that no living worker has."""
    with as_owner() as connection:
        names = list(connection.execute(_DRAIN, {"name": name, "seconds": ALIVE_SECONDS}).scalars())
        if name is not None and not names:
            raise NotFound(f"No living worker has the name {name!r}.")
        audit.record(connection, actor, "workers.drain", None, workers=names)
    return sorted(names)


_BEAT = text("""
    INSERT INTO workers (name, host, pid) VALUES (:name, :host, :pid)
    ON CONFLICT (name) DO UPDATE SET seen_at = clock_timestamp() RETURNING drain_asked_at IS NOT NULL
""")

# The few rows are read through; each process that beats has one.
_FORGET = text("""
    DELETE FROM workers WHERE name IN (
        SELECT name FROM workers WHERE seen_at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY name FOR UPDATE SKIP LOCKED
    )
""")

_LEAVE = text("DELETE FROM workers WHERE name = :name")

_KNOWN = text("""
    WITH held AS (
        SELECT worker, count(*) AS claims, sum(pending)::bigint AS rows, min(lease_until) AS lease_until
        FROM claims WHERE state = 'leased' GROUP BY worker
    )
    SELECT coalesce(w.name, h.worker) AS name, coalesce(w.host, '?') AS host, coalesce(w.pid, 0) AS pid,
        coalesce(w.started_at, h.lease_until) AS started_at, coalesce(w.seen_at, h.lease_until) AS seen_at,
        w.drain_asked_at IS NOT NULL AS draining,
        coalesce(w.seen_at > clock_timestamp() - make_interval(secs => :seconds), false) AS alive,
        coalesce(h.claims, 0) AS claims, coalesce(h.rows, 0) AS rows, h.lease_until
    FROM workers w FULL JOIN held h ON h.worker = w.name ORDER BY w.started_at NULLS LAST, 1
""")

_DRAIN = text("""
    UPDATE workers SET drain_asked_at = coalesce(drain_asked_at, clock_timestamp())
    WHERE (CAST(:name AS text) IS NULL OR name = :name)
        AND seen_at > clock_timestamp() - make_interval(secs => :seconds)
    RETURNING name
""")
