"""Rows that may be ending the processes that run them, and how the one is found among its neighbours.

A process dies of a row, or of something else, and nobody can say of which. So each claim it ran counts a death. From
the second on a claim is suspected: it is cut into pieces, and of its suspected rows a process runs a few at a time, on
trial; from the third on one. The next death counts for those on trial alone, and for claims that nobody suspects yet:
the culprit may be among these. A row that ended every process which ran it as the only suspect, several times in a row,
is to blame, and fails.

Killed at random, a row would have to be hit by every one of MAX_DEATHS kills, four of them during its own few moments.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids
from worker.claims import Claim

# Two processes may well be killed one after the other: by an upgrade, or for want of memory on their host.
SUSPECT_DEATHS = 2
ALONE_DEATHS = 3
MAX_DEATHS = ALONE_DEATHS + 4
ROWS_ON_TRIAL = 16


def is_suspect(claim: Claim) -> bool:
    """Whether its rows are run a few at a time."""
    return claim.deaths >= SUSPECT_DEATHS


def is_to_blame(claim: Claim) -> bool:
    """Whether its one row is not to be run any more."""
    return claim.deaths >= MAX_DEATHS and len(claim.jobs) == 1


def rows_on_trial(deaths: int) -> int:
    """How many suspected rows a process runs at once, of claims with so many deaths."""
    return ROWS_ON_TRIAL if deaths < ALONE_DEATHS else 1


def split(connection: Connection, returned: Sequence[Any]) -> None:
    """Cuts returned claims that are suspected into pieces that are tried apart. Their batches must be locked."""
    large = {row.id: row for row in returned if _is_large(row)}
    if not large:
        return
    open_rows: dict[UUID, list[int]] = {claim_id: [] for claim_id in large}
    columns = {
        "ids": list(large),
        "batch_ids": [row.batch_id for row in large.values()],
        "firsts": [row.first_seq for row in large.values()],
        "ends": [row.end_seq for row in large.values()],
    }
    for row in connection.execute(_OPEN_ROWS, columns):
        open_rows[row.claim_id].append(row.seq)
    pieces = [
        (claim_id, seqs[at : at + size])
        for claim_id, seqs in open_rows.items()
        for size in [rows_on_trial(large[claim_id].deaths)]
        for at in range(0, len(seqs), size)
    ]
    parameters = {
        "olds": [claim_id for claim_id, _ in pieces],
        "news": [ids.new_id() for _ in pieces],
        "firsts": [seqs[0] for _, seqs in pieces],
        "ends": [seqs[-1] + 1 for _, seqs in pieces],
        "rows": [len(seqs) for _, seqs in pieces],
    }
    connection.execute(_INSERT_PIECES, parameters)
    connection.execute(_DELETE, {"ids": list({claim_id for claim_id, _ in pieces})})


def _is_large(row: Any) -> bool:
    return bool(row.deaths >= SUSPECT_DEATHS and row.pending > rows_on_trial(row.deaths))


_OPEN_ROWS = text("""
    SELECT c.id AS claim_id, n.seq
    FROM unnest(CAST(:ids AS uuid[]), CAST(:batch_ids AS uuid[]), CAST(:firsts AS int[]), CAST(:ends AS int[]))
        AS c (id, batch_id, first_seq, end_seq), generate_series(c.first_seq, c.end_seq - 1) AS n (seq)
    WHERE NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = c.batch_id AND r.seq = n.seq)
    ORDER BY c.id, n.seq
""")

# New claims, whose fences nobody has: a process that was held up and lives knows none of them.
_INSERT_PIECES = text("""
    INSERT INTO claims (id, batch_id, account_id, first_seq, end_seq, pending, state, worker, lease_until, deaths)
    SELECT p.new_id, c.batch_id, c.account_id, p.first_seq, p.end_seq, p.rows, 'returned', c.worker, c.lease_until,
        c.deaths
    FROM unnest(CAST(:olds AS uuid[]), CAST(:news AS uuid[]), CAST(:firsts AS int[]), CAST(:ends AS int[]),
            CAST(:rows AS int[])) AS p (old_id, new_id, first_seq, end_seq, rows)
        JOIN claims c ON c.id = p.old_id
""")

_DELETE = text("DELETE FROM claims WHERE id = ANY(:ids)")
