"""Where a batch that waits stands in its plan's queue.

Rows count as far as they are claimed before the batch's next turn, so that a small batch behind a million rows of
another account is behind one claim of them and no more. Of other accounts there is nothing to learn but the two sums.
"""

from typing import LiteralString, NamedTuple
from uuid import UUID

from common.batches import Batch
from common.database import read_account

# The most rows that one claim takes. A claim and its ticket cost the same for a few rows as for many; a small claim
# leaves the choice of what is next open.
MAX_CLAIM_ROWS = 256
# Of the account's own jobs and batches before it, no more are looked at.
MOST_COUNTED = 1_000


class QueuePosition(NamedTuple):
    """`accounts` of its plan are served before its own, and `rows` are claimed before its next."""

    accounts: int
    rows: int


def of(account_id: UUID, batch: Batch) -> QueuePosition | None:
    """The batch's position as it is now; None unless it waits: it has rows that a worker may claim, and none has any of
    them. Costs what so many waiting accounts cost, however many rows they have."""
    if batch.state != "in_progress" or batch.ended_rows >= batch.total:
        return None
    parameters = {"batch_id": batch.id, "claim_rows": MAX_CLAIM_ROWS, "counted": MOST_COUNTED}
    found = read_account(account_id, _POSITION, parameters)
    return QueuePosition(found[0]["accounts_ahead"], found[0]["rows_ahead"]) if found else None


_POSITION: LiteralString = (
    "SELECT accounts_ahead, rows_ahead FROM queue_position(%(batch_id)s, %(claim_rows)s, %(counted)s)"
)
