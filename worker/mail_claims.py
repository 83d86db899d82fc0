"""Taking mails that are due, for a while, and mending what a crash leaves behind."""

import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cryptography.fernet import InvalidToken

from common import mails
from common.database import driver_as_owner, named
from common.mail_texts import Text

log = logging.getLogger(__name__)

# Twice what an attempt may take, for its record.
LEASE_SECONDS = 120
# A mail whose process died so often fails: it may be what kills.
MAX_DEATHS = 8
# How long what became of a mail can be looked up.
KEPT_DAYS = 7
FORGOTTEN_PER_PASS = 1_000


@dataclass(frozen=True, slots=True)
class ClaimedMail:
    """A mail that is this process's until its lease ends. `number` counts its attempts with this one; `text` is None
    where it cannot be read."""

    id: UUID
    number: int
    recipient: str
    template: str
    written_at: datetime
    text: Text | None


def take(room: int) -> list[ClaimedMail]:
    """Up to `room` mails that are due, the longest due first."""
    with driver_as_owner() as connection:
        rows = named(connection, _TAKE, {"room": room, "seconds": LEASE_SECONDS}).fetchall()
    return [
        ClaimedMail(row.id, row.attempts, row.recipient, row.template, row.created_at, _unsealed(row.sealed))
        for row in rows
    ]


def mend() -> None:
    """Mails whose process died, or was held up past its lease, are due again; and what ended long ago is deleted."""
    with driver_as_owner() as connection:
        ended = connection.execute(_GIVE_BACK_ENDED, {"max_deaths": MAX_DEATHS}).rowcount
        connection.execute(_FORGET, {"days": KEPT_DAYS, "limit": FORGOTTEN_PER_PASS})
    if ended:
        log.warning("mails whose process died are due again", extra={"mails": ended})


def _unsealed(sealed: bytes) -> Text | None:
    try:
        return mails.unseal(bytes(sealed))
    except InvalidToken:
        log.error("a mail cannot be read: SECRET_KEY is another than when it was written")
        return None


_TAKE = """
    UPDATE mails SET state = 'sending', attempts = attempts + 1, next_attempt_at = NULL,
        lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
    WHERE id = ANY (ARRAY(
        SELECT id FROM mails WHERE state = 'pending' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT %(room)s FOR UPDATE SKIP LOCKED))
    RETURNING id, attempts, recipient, template, created_at, sealed
"""

_GIVE_BACK_ENDED = """
    WITH ended AS (
        SELECT id, deaths + 1 >= %(max_deaths)s AS given_up FROM mails
        WHERE state = 'sending' AND lease_until < now() LIMIT 100 FOR UPDATE SKIP LOCKED
    )
    UPDATE mails m SET state = CASE WHEN e.given_up THEN 'failed' ELSE 'pending' END, deaths = m.deaths + 1,
        lease_until = NULL, failure = 'process_died', answer = NULL,
        next_attempt_at = CASE WHEN NOT e.given_up THEN now() END,
        ended_at = CASE WHEN e.given_up THEN now() END, sealed = CASE WHEN NOT e.given_up THEN m.sealed END
    FROM ended e WHERE m.id = e.id
"""

_FORGET = """
    DELETE FROM mails WHERE id = ANY (ARRAY(
        SELECT id FROM mails WHERE ended_at < now() - make_interval(days => %(days)s) LIMIT %(limit)s))
"""
