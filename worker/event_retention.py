"""Events are kept as long as their account's results, and with them their deliveries and attempts: the log and what can
be replayed from it. One of which a delivery is still open stays until that has ended."""

from uuid import UUID

from sqlalchemy import text

from common.database import owner_engine
from common.plans import plans

EVENTS_PER_STEP = 2_000
STEPS_PER_PASS = 20


def delete_events() -> None:
    """One pass. May be run twice, and by several at once."""
    kept = {
        "plans": [plan.name for plan in plans().values()],
        "days": [plan.retention_days for plan in plans().values()],
    }
    with owner_engine().begin() as connection:
        due = connection.execute(_ACCOUNTS_WITH_OLD_EVENTS, kept).all()
    for account in due:
        _delete_of_account(account.id, account.days)


def _delete_of_account(account_id: UUID, days: int) -> None:
    for _ in range(STEPS_PER_PASS):
        with owner_engine().begin() as connection:
            parameters = {"account_id": account_id, "days": days, "limit": EVENTS_PER_STEP}
            if connection.execute(_DELETE_EVENTS, parameters).rowcount < EVENTS_PER_STEP:
                return


# A skip scan over the accounts that have events, one probe each: their ids are in the order of time.
_ACCOUNTS_WITH_OLD_EVENTS = text("""
    WITH RECURSIVE oldest AS (
        (SELECT account_id, id FROM events ORDER BY account_id, id LIMIT 1)
        UNION ALL
        SELECT following.account_id, following.id FROM oldest, LATERAL (
            SELECT e.account_id, e.id FROM events e WHERE e.account_id > oldest.account_id
            ORDER BY e.account_id, e.id LIMIT 1
        ) AS following
    ), kept AS (
        SELECT a.id, coalesce((a.overrides ->> 'retention_days')::int, k.days) AS days
        FROM accounts a JOIN unnest(CAST(:plans AS text[]), CAST(:days AS int[])) AS k (plan, days) ON k.plan = a.plan
    )
    SELECT kept.id, kept.days FROM oldest JOIN kept ON kept.id = oldest.account_id
    WHERE uuid_extract_timestamp(oldest.id) < now() - make_interval(days => kept.days)
""")

# Deliveries and attempts go with them.
_DELETE_EVENTS = text("""
    DELETE FROM events WHERE id IN (
        SELECT e.id FROM events e
        WHERE e.account_id = :account_id AND e.id < (SELECT uuidv7(make_interval(days => -CAST(:days AS int))))
            AND NOT EXISTS (
                SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND d.state IN ('pending', 'sending'))
        ORDER BY e.id LIMIT :limit FOR UPDATE OF e SKIP LOCKED)
""")
