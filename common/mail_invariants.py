"""What must be true of mails: those that can be sent are sent. As in common/invariants.py, the check reads one snapshot
and returns findings."""

from typing import Any

from sqlalchemy import Connection, text

from common.invariants import Finding

# A mail server that puts off a stranger's first mail takes it within this.
LATE_MINUTES = 60


def mails(connection: Connection) -> list[Finding]:
    """One for each kind of failure of the last days, and of what waits. An address that its own mail server refuses is
    no finding: anybody can type one that is nobody's."""
    return [
        *map(_failed, connection.execute(_FAILED)),
        *map(_late, connection.execute(_LATE, {"minutes": LATE_MINUTES})),
    ]


def _failed(row: Any) -> Finding:
    said = f"; the mail server said: {row.answer}" if row.answer else ""
    return Finding("mails", row.failure, f"{row.mails} failed, the last one ({row.template}) at {row.ended_at}{said}")


def _late(row: Any) -> Finding:
    said = f": {row.answer}" if row.answer else ""
    why = f"the last attempt: {row.failure}{said}" if row.failure else "none was attempted: nobody runs `deliveries`"
    return Finding("mails", row.template, f"{row.mails} wait for over {LATE_MINUTES} minutes; {why}")


_FAILED = text("""
    SELECT failure, count(*) AS mails, max(ended_at) AS ended_at,
        (array_agg(template ORDER BY ended_at DESC))[1] AS template,
        (array_agg(answer ORDER BY ended_at DESC))[1] AS answer
    FROM mails WHERE state = 'failed' AND failure <> 'recipient_refused' GROUP BY failure ORDER BY failure
""")

_LATE = text("""
    SELECT template, count(*) AS mails,
        (array_agg(failure ORDER BY failure IS NULL, created_at DESC))[1] AS failure,
        (array_agg(answer ORDER BY failure IS NULL, created_at DESC))[1] AS answer
    FROM mails WHERE ended_at IS NULL AND created_at < clock_timestamp() - make_interval(mins => :minutes)
    GROUP BY template ORDER BY template
""")
