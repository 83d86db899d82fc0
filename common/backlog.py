"""What waits, for the operator to see: in PostgreSQL, where the work is, and in Redis, which tells of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from common import ids, plans
from common.database import as_owner


@dataclass(frozen=True, slots=True)
class Depth:
    """One plan's work: rows that nobody has claimed, the accounts that they are of, and rows that workers hold."""

    plan: str
    pending_rows: int
    accounts_waiting: int
    running_rows: int


@dataclass(frozen=True, slots=True)
class PausedBatch:
    """A batch, or a single job as a batch of one, of which nothing starts."""

    id: UUID
    kind: str
    account_id: UUID
    plan: str
    pending_rows: int
    reason: str
    paused_at: datetime | None

    @property
    def shown_id(self) -> str:
        return ids.show("batch_", self.id)


def depths() -> Sequence[Depth]:
    """Of every plan. Reads each batch with pending work once: with very many single jobs that is a second or two."""
    with as_owner() as connection:
        return [Depth(**row._mapping) for row in connection.execute(_DEPTHS, {"plans": list(plans.plans())})]


def paused(account_id: UUID | None, after: str | None, limit: int) -> Sequence[PausedBatch]:
    """Up to `limit` paused batches, newest first, those before the batch `after`; of one account, or of all."""
    parameters = {"account_id": account_id, "after": ids.parse_after("batch_", after), "limit": limit}
    with as_owner() as connection:
        return [PausedBatch(**row._mapping) for row in connection.execute(_PAUSED, parameters)]


# A plan that the file no longer has may still have work.
_DEPTHS = text("""
    WITH pending AS (
        SELECT plan, sum(total - cursor + returned)::bigint AS rows, count(DISTINCT account_id) AS accounts
        FROM batches WHERE state = 'in_progress' AND (cursor < total OR returned > 0) GROUP BY plan
    ), running AS (
        SELECT b.plan, sum(c.pending)::bigint AS rows FROM claims c JOIN batches b ON b.id = c.batch_id
        WHERE c.state = 'leased' GROUP BY b.plan
    ), known AS (
        SELECT plan, place FROM unnest(CAST(:plans AS text[])) WITH ORDINALITY AS k (plan, place)
        UNION ALL
        SELECT plan, NULL FROM pending WHERE plan <> ALL(:plans)
    )
    SELECT k.plan, coalesce(p.rows, 0) AS pending_rows, coalesce(p.accounts, 0) AS accounts_waiting,
        coalesce(r.rows, 0) AS running_rows
    FROM known k LEFT JOIN pending p ON p.plan = k.plan LEFT JOIN running r ON r.plan = k.plan ORDER BY k.place
""")

_PAUSED = text("""
    SELECT id, kind, account_id, plan, total - cursor + returned AS pending_rows, paused_reason AS reason, paused_at
    FROM batches
    WHERE state = 'paused' AND (CAST(:account_id AS uuid) IS NULL OR account_id = :account_id)
        AND (CAST(:after AS uuid) IS NULL OR id < CAST(:after AS uuid))
    ORDER BY id DESC LIMIT :limit
""")
