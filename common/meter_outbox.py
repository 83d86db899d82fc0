"""The outbox of meter events: what is to be sent, by whom it is being sent, and what came of it.

A portion is sent until Stripe has it, always under its one identifier. Stripe refuses an identifier that it has for a
day: within that, what nobody knows the outcome of is just sent again, and after it Stripe's own sums are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import text

from common.database import as_owner

OUTBOX_LOCK = 7_201_007
# More than twice what an attempt may take.
LEASE_SECONDS = 90
# Of a lease, the end in which no attempt begins: it could not end within it.
LEASE_MARGIN_SECONDS = 45
# Stripe remembers identifiers for 24 hours; the last of them is for clocks that differ and calls that take long.
REPEATABLE = timedelta(hours=23)
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 600.0
SHOWN = 100

Came = Literal["delivered", "refused", "not_taken", "unknown"]


@dataclass(frozen=True, slots=True)
class Portion:
    """A meter event that is this process's to send until its lease ends. `attempt` counts all of them, with this."""

    identifier: str
    account_id: UUID
    customer: str
    meter: str
    hour: datetime
    used_at: datetime
    tokens: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. delivered: Stripe has it, of now or of before. refused: it never will. not_taken: it has
    not, and may be asked again. unknown: nobody can tell whether it has, as the answer did not come or is its error."""

    portion: Portion
    came: Came
    problem: str | None = None


def claim(room: int) -> list[Portion]:
    """Up to `room` portions that are due, oldest first, and one of each account: of a customer Stripe takes one event
    at a time. One claim at a time over all processes, so that this holds."""
    with as_owner() as connection:
        connection.execute(_LOCK, {"lock": OUTBOX_LOCK})
        parameters = {"room": room, "seconds": LEASE_SECONDS, "repeatable": REPEATABLE}
        return [Portion(**row._mapping) for row in connection.execute(_CLAIM, parameters)]


def record(outcomes: Sequence[Outcome]) -> None:
    """Writes what came of attempts; of one that was held up past its lease nothing, as another has been begun."""
    parameters = [
        {
            "identifier": outcome.portion.identifier,
            "attempt": outcome.portion.attempt,
            "came": outcome.came,
            "problem": outcome.problem,
            "first": FIRST_PAUSE_SECONDS,
            "longest": LONGEST_PAUSE_SECONDS,
        }
        for outcome in sorted(outcomes, key=lambda outcome: outcome.portion.identifier)
    ]
    if parameters:
        with as_owner() as connection:
            connection.execute(_RECORD, parameters)


def look() -> list[str]:
    """Attempts whose process died, or was held up past its lease, have an unknown outcome. Returns the identifiers that
    are in doubt from now on: what is unknown of them is too old to be just sent again."""
    with as_owner() as connection:
        connection.execute(_GIVE_BACK_ENDED)
        return list(connection.execute(_DOUBT, {"repeatable": REPEATABLE}).scalars())


def make_due() -> int:
    """What waits for its next attempt need not wait. Returns how many portions did."""
    with as_owner() as connection:
        return connection.execute(_MAKE_DUE).rowcount


def send_again() -> int:
    """What Stripe refused is sent again, now that an operator says that the reason is gone. Returns how many."""
    with as_owner() as connection:
        return connection.execute(_SEND_AGAIN).rowcount


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is on its way; `oldest` is the time that the first of it is told with."""

    portions: int
    tokens: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Stuck:
    """A portion that does not go on by itself, and why."""

    identifier: str
    state: str
    tokens: int
    problem: str | None


def waiting() -> Waiting:
    with as_owner() as connection:
        return Waiting(**connection.execute(_WAITING).one()._mapping)


def stuck() -> list[Stuck]:
    """The oldest first, and no more of them than somebody reads."""
    with as_owner() as connection:
        return [Stuck(**row._mapping) for row in connection.execute(_STUCK, {"limit": SHOWN})]


_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")

_CLAIM = text("""
    WITH due AS (
        SELECT DISTINCT ON (o.account_id) o.identifier, o.hour, o.portion FROM meter_outbox o
        WHERE o.state = 'pending' AND o.next_attempt_at <= clock_timestamp()
            AND (o.doubtful_since IS NULL OR o.doubtful_since > clock_timestamp() - CAST(:repeatable AS interval))
            AND NOT EXISTS (
                SELECT 1 FROM meter_outbox s WHERE s.account_id = o.account_id AND s.state = 'sending')
        ORDER BY o.account_id, o.hour, o.portion
    ), claimed AS (
        UPDATE meter_outbox SET state = 'sending', attempts = attempts + 1, next_attempt_at = NULL,
            attempted_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => :seconds)
        WHERE state = 'pending'
            AND identifier = ANY (ARRAY(SELECT identifier FROM due ORDER BY hour, portion, identifier LIMIT :room))
        RETURNING identifier, account_id, customer, meter, hour, used_at, tokens, attempts AS attempt
    )
    SELECT * FROM claimed ORDER BY hour, identifier
""")

# The first pause is a second, each is twice the one before, and half of it is chance: many fail at once.
_RECORD = text("""
    UPDATE meter_outbox SET lease_until = NULL, problem = CAST(:problem AS text),
        state = CASE :came WHEN 'delivered' THEN 'delivered' WHEN 'refused' THEN 'failed' ELSE 'pending' END,
        delivered_at = CASE WHEN :came = 'delivered' THEN clock_timestamp() END,
        doubtful_since = CASE :came WHEN 'delivered' THEN NULL
            WHEN 'unknown' THEN coalesce(doubtful_since, attempted_at) ELSE doubtful_since END,
        next_attempt_at = CASE WHEN :came IN ('not_taken', 'unknown') THEN clock_timestamp() + make_interval(
            secs => least(:longest, :first * 2.0 ^ least(attempts - 1, 30)) * (1 + random()) / 2) END
    WHERE identifier = :identifier AND attempts = :attempt AND state = 'sending'
""")

_GIVE_BACK_ENDED = text("""
    UPDATE meter_outbox SET state = 'pending', lease_until = NULL, next_attempt_at = clock_timestamp(),
        doubtful_since = coalesce(doubtful_since, attempted_at), problem = 'its process did not say what came of it'
    WHERE state = 'sending' AND lease_until < clock_timestamp()
""")

_DOUBT = text("""
    UPDATE meter_outbox SET state = 'in_doubt', next_attempt_at = NULL
    WHERE state = 'pending' AND doubtful_since <= clock_timestamp() - CAST(:repeatable AS interval)
    RETURNING identifier
""")

_MAKE_DUE = text("""
    UPDATE meter_outbox SET next_attempt_at = clock_timestamp()
    WHERE state = 'pending' AND next_attempt_at > clock_timestamp()
""")

_SEND_AGAIN = text("""
    UPDATE meter_outbox SET state = 'pending', next_attempt_at = clock_timestamp() WHERE state = 'failed'
""")

_WAITING = text("""
    SELECT count(*) AS portions, coalesce(sum(tokens), 0)::bigint AS tokens, min(used_at) AT TIME ZONE 'UTC' AS oldest
    FROM meter_outbox WHERE state IN ('pending', 'sending')
""")

_STUCK = text("""
    SELECT identifier, state, tokens, problem FROM meter_outbox
    WHERE state IN ('failed', 'in_doubt') ORDER BY hour, identifier LIMIT :limit
""")
