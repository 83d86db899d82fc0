"""The platform's own switch and cap: with them the operator stops all calls, whoever's they are."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from common import audit, plans, queue
from common.audit import Actor
from common.database import as_owner


@dataclass(frozen=True, slots=True)
class Platform:
    """Stopped since `stopped_at`, or not. `hard_cap` and `spent` are nano-dollars in the calendar month (UTC) that
    began at `month`."""

    stopped_at: datetime | None
    stopped_reason: str | None
    hard_cap: int | None
    month: datetime
    spent: int


def get() -> Platform:
    with as_owner() as connection:
        return Platform(**connection.execute(_SELECT).one()._mapping)


def stop(actor: Actor, reason: str) -> Platform:
    """No call starts from now on, on any account's behalf. Calls in flight end."""
    with as_owner() as connection:
        connection.execute(_STOP, {"reason": reason})
        audit.record(connection, actor, "platform.stop", None, reason=reason)
    return get()


def resume(actor: Actor) -> Platform:
    """Calls start again."""
    with as_owner() as connection:
        connection.execute(_RESUME)
        audit.record(connection, actor, "platform.resume", None)
    _announce_all()
    return get()


def set_cap(actor: Actor, hard_cap: int | None) -> Platform:
    """What all calls of a calendar month may cost together, in nano-dollars; None for no cap."""
    with as_owner() as connection:
        before = connection.execute(_LOCK_CAP).scalar_one()
        connection.execute(_SET_CAP, {"hard_cap": hard_cap})
        audit.record(connection, actor, "platform.change", None, hard_cap={"from": before, "to": hard_cap})
    _announce_all()
    return get()


def _announce_all() -> None:
    for plan in plans.plans():
        queue.announce_work(plan)


# What was spent in a month that is over counts no more; the next settlement says so in the row itself.
_SELECT = text("""
    SELECT stopped_at, stopped_reason, hard_cap, this.month,
        CASE WHEN p.month = this.month THEN spent ELSE 0 END AS spent
    FROM platform p, (SELECT date_trunc('month', now(), 'UTC') AS month) AS this
""")
_STOP = text("UPDATE platform SET stopped_at = coalesce(stopped_at, now()), stopped_reason = :reason")
_RESUME = text("UPDATE platform SET stopped_at = NULL, stopped_reason = NULL")
_LOCK_CAP = text("SELECT hard_cap FROM platform FOR UPDATE")
_SET_CAP = text("UPDATE platform SET hard_cap = :hard_cap")
