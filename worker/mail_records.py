"""Recording what came of an attempt at a mail, guarded by the attempt's number, and when it is due again."""

import random

from common.database import driver_as_owner
from worker.mail_sender import MailAttempt

# Before each attempt that follows, from the one before it; the last for all that follow.
DELAYS_SECONDS = (5, 30, 120, 600, 1_800, 3_600)
# On top, by chance: mails of one outage do not come at once.
JITTER = 0.1
# A mail that is not taken by then has failed: its link is over, and its reader has asked again.
GIVEN_UP_SECONDS = 86_400


def record(attempt: MailAttempt) -> None:
    """Writes what came of it; nothing where the mail is no longer this process's. Safe to call again after a lost
    connection, whether or not it had committed."""
    number = attempt.mail.number
    parameters = {
        "id": attempt.mail.id,
        "number": number,
        "failure": attempt.failure,
        "for_good": attempt.for_good,
        "answer": attempt.answer,
        "delay": DELAYS_SECONDS[min(number, len(DELAYS_SECONDS)) - 1] * (1 + JITTER * random.random()),
        "given_up": GIVEN_UP_SECONDS,
    }
    with driver_as_owner() as connection:
        connection.execute(_RECORD, parameters)


# What has ended says nothing more: a link is as good as a password.
_RECORD = """
    WITH moved AS (
        SELECT id, CASE
            WHEN %(failure)s::text IS NULL THEN 'sent'
            WHEN %(for_good)s OR created_at + make_interval(secs => %(given_up)s)
                < clock_timestamp() + make_interval(secs => %(delay)s) THEN 'failed'
            ELSE 'pending' END AS state
        FROM mails WHERE id = %(id)s AND attempts = %(number)s AND state = 'sending' FOR UPDATE
    )
    UPDATE mails m SET state = moved.state, lease_until = NULL, failure = %(failure)s, answer = %(answer)s,
        next_attempt_at = CASE WHEN moved.state = 'pending'
            THEN clock_timestamp() + make_interval(secs => %(delay)s) END,
        ended_at = CASE WHEN moved.state <> 'pending' THEN clock_timestamp() END,
        sealed = CASE WHEN moved.state = 'pending' THEN m.sealed END
    FROM moved WHERE m.id = moved.id
"""
