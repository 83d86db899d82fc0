"""Counters against their sums, a few batches and quotas at a time and round and round: a defect is told in the
operator's log soon, and not when somebody asks. Nothing is rewritten, for it is money; but what an ended batch still
holds holds up its account, and is let go."""

import logging
from uuid import UUID

from sqlalchemy import text

from common import ids, invariants, quotas, work_invariants
from common.database import owner_engine
from common.reservations import exposure

log = logging.getLogger(__name__)

SUMS_SECONDS = 30.0
BATCHES_PER_PASS = 50
ROWS_PER_PASS = 20_000
BATCHES_OF_A_QUOTA = 5_000


class Rotation:
    """Where the next pass of this process goes on. It begins with what was made since the process started."""

    def __init__(self) -> None:
        self._batch_after = ids.new_id()
        self._account_after = ids.new_id()

    def run(self) -> None:
        """One pass."""
        with invariants.snapshot() as connection:
            found = connection.execute(_BATCHES, {"after": self._batch_after, "limit": BATCHES_PER_PASS}).all()
            self._batch_after = found[-1].id if found else UUID(int=0)
            account = connection.execute(_ACCOUNT, {"after": self._account_after}).scalar_one_or_none()
            self._account_after = account or UUID(int=0)
            findings = invariants.of_batches(connection, [row.id for row in found if row.sum_rows <= ROWS_PER_PASS])
            # One with very many batches is left to the doctor.
            if (
                account is not None
                and not connection.execute(_IS_LARGE, {"account_id": account, "most": BATCHES_OF_A_QUOTA}).scalar_one()
            ):
                findings += work_invariants.quotas(connection, account)
        for finding in findings:
            log.error("counters are off: %s", finding)
        for row in found:
            if row.holds_ended:
                let_go(row.id)


def let_go(batch_id: UUID) -> None:
    """A batch that has ended holds nothing of its account."""
    with owner_engine().begin() as connection:
        batch = connection.execute(_LOCK, {"batch_id": batch_id}).one_or_none()
        if batch is None:
            return
        cost = exposure(batch.reserved_cost, batch.cost, batch.max_cost)
        quotas.release(connection, batch.account_id, batch.period_start, batch.reserved_tokens, cost)
        connection.execute(_LET_GO, {"batch_id": batch_id})
    log.error("what an ended batch held is let go", extra={"batch": ids.show("batch_", batch_id)})


_BATCHES = text("""
    SELECT id, sum(total) OVER (ORDER BY id) AS sum_rows,
        ended_at IS NOT NULL AND (reserved_tokens > 0 OR reserved_cost > 0) AS holds_ended
    FROM (
        SELECT id, total, ended_at, reserved_tokens, reserved_cost FROM batches
        WHERE id > :after ORDER BY id LIMIT :limit
    ) AS next ORDER BY id
""")

_ACCOUNT = text("SELECT account_id FROM quotas WHERE account_id > :after ORDER BY account_id LIMIT 1")

_IS_LARGE = text("""
    SELECT count(*) > :most FROM (
        SELECT 1 FROM batches WHERE account_id = :account_id LIMIT CAST(:most AS bigint) + 1
    ) AS b
""")

_LOCK = text("""
    SELECT account_id, period_start, reserved_tokens, reserved_cost, cost, max_cost FROM batches
    WHERE id = :batch_id AND ended_at IS NOT NULL AND (reserved_tokens > 0 OR reserved_cost > 0) FOR UPDATE
""")

_LET_GO = text("UPDATE batches SET reserved_tokens = 0, reserved_cost = 0 WHERE id = :batch_id")
