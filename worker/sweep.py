"""The sweep: one pass that repairs whatever a crash leaves behind. Any process may run it; one at a time does."""

import logging

from sqlalchemy import Connection, text

from common import pauses, queue
from common.batch_input import INGEST_LOCK
from common.database import owner_engine
from common.plans import plans
from worker import batch_progress, billed_plans, expiry, leases

log = logging.getLogger(__name__)

SWEEP_LOCK = 7_201_002


def run(trust_leases: bool = True) -> None:
    """One pass, unless another process is in the middle of one. Leases that have ended are left alone when they are not
    to be trusted: after an outage all have, and the living must get to renew theirs first."""
    with owner_engine().connect() as connection:
        if connection.execute(_TRY_LOCK, {"lock": SWEEP_LOCK}).scalar_one():
            if trust_leases:
                return_expired_leases()
            billed_plans.settle()
            settle_suspensions(connection)
            settle_spend_caps(connection)
            add_missing_tickets(connection)
            restart_ingests(connection)
            expiry.expire()
            restart_tasks(connection)
            batch_progress.tell()
        # The end of the transaction gives the lock back; a rollback would cost the connection its prepared statements.
        connection.commit()


def return_expired_leases() -> None:
    """The rows of a worker that died, or was held up past its lease, are pending again; see also worker/suspects.py."""
    for plan in leases.give_back_expired():
        log.warning("a lease ended without its worker's word; its jobs are pending again", extra={"plan": plan})


def settle_suspensions(connection: Connection) -> None:
    """Nothing of a suspended account starts, also what its operator or an ingest left in progress; and what was paused
    for that alone goes on once it is no longer so."""
    for account_id in connection.execute(_SUSPENDED_WITH_WORK, {"plans": list(plans())}).scalars():
        pauses.pause_account(account_id, "account_suspended")
    for account_id in connection.execute(_PAUSED_FOR_NOTHING, {"reason": "account_suspended"}).scalars():
        pauses.resume_account(account_id, "account_suspended")


def settle_spend_caps(connection: Connection) -> None:
    """Nothing of an account starts that has spent its hard cap in the current billing period, also where the flush that
    saw it died or the cap was lowered; and what was paused for that alone goes on in a new period, below a higher cap,
    or without one."""
    for account_id in connection.execute(_CAPPED_WITH_WORK).scalars():
        pauses.pause_account(account_id, "spend_cap")
    for account_id in connection.execute(_PAUSED_BELOW_CAP, {"reason": "spend_cap"}).scalars():
        pauses.resume_account(account_id, "spend_cap")


def add_missing_tickets(connection: Connection) -> None:
    """A plan with pending work has a ticket, also after Redis was emptied or a worker died holding one."""
    for plan in connection.execute(_PLANS_WITH_WORK).scalars():
        queue.announce_work(plan)


def restart_ingests(connection: Connection) -> None:
    """A batch that is validating, and whose input nobody reads, gets its task again."""
    validating = connection.execute(_VALIDATING).scalars().all()
    if forgotten := queue.forgotten(queue.INGESTS_QUEUE, "ingest", validating):
        for batch_id in connection.execute(_UNREAD, {"ids": forgotten, "lock": INGEST_LOCK}).scalars():
            queue.enqueue_ingest(batch_id)


def restart_tasks(connection: Connection) -> None:
    """A batch that stops and has rows that no worker runs, or whose rows are to run again, has its task."""
    for batch_id in queue.forgotten(queue.TASKS_QUEUE, "close", connection.execute(_UNCLOSED).scalars().all()):
        queue.enqueue_close(batch_id)
    for batch_id in queue.forgotten(queue.TASKS_QUEUE, "retry", connection.execute(_RETRYING).scalars().all()):
        queue.enqueue_retry(batch_id)


_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

# A probe for each suspended account and plan, with the condition of the index of what can be claimed.
_SUSPENDED_WITH_WORK = text("""
    SELECT a.id FROM accounts a WHERE a.state = 'suspended' AND EXISTS (
        SELECT 1 FROM unnest(CAST(:plans AS text[])) AS known (plan), batches b
        WHERE b.plan = known.plan AND b.account_id = a.id
            AND b.state = 'in_progress' AND (b.cursor < b.total OR b.returned > 0) AND NOT b.held_back
    )
""")

# A skip scan over the accounts that have batches paused for a reason: one probe each.
_PAUSED = """
    WITH RECURSIVE paused AS (
        (SELECT account_id FROM batches WHERE state = 'paused' AND paused_reason = :reason
         ORDER BY account_id LIMIT 1)
        UNION ALL
        SELECT (SELECT b.account_id FROM batches b
                WHERE b.account_id > paused.account_id AND b.state = 'paused' AND b.paused_reason = :reason
                ORDER BY b.account_id LIMIT 1)
        FROM paused WHERE paused.account_id IS NOT NULL
    )
"""

_PAUSED_FOR_NOTHING = text(f"""
    {_PAUSED}
    SELECT a.id FROM paused JOIN accounts a ON a.id = paused.account_id WHERE a.state = 'active'
""")

# A skip scan over the accounts that wait, as a claim makes it: one probe each, however many jobs they have.
_CAPPED_WITH_WORK = text("""
    WITH RECURSIVE waiting AS (
        (SELECT plan, account_id FROM batches
         WHERE state = 'in_progress' AND (cursor < total OR returned > 0) AND NOT held_back
         ORDER BY plan, account_id LIMIT 1)
        UNION ALL
        SELECT following.plan, following.account_id FROM waiting, LATERAL (
            SELECT b.plan, b.account_id FROM batches b
            WHERE (b.plan, b.account_id) > (waiting.plan, waiting.account_id)
                AND b.state = 'in_progress' AND (b.cursor < b.total OR b.returned > 0) AND NOT b.held_back
            ORDER BY b.plan, b.account_id LIMIT 1
        ) AS following
    )
    SELECT DISTINCT a.id FROM waiting JOIN accounts a ON a.id = waiting.account_id
        JOIN quotas q ON q.account_id = a.id AND q.cost_used >= a.hard_cap
    WHERE q.period_start = (billing_period(a.billing_anchor, now())).period_start
""")

# A period has its row from its first admission on: without one, nothing is spent.
_PAUSED_BELOW_CAP = text(f"""
    {_PAUSED}
    SELECT a.id FROM paused JOIN accounts a ON a.id = paused.account_id
    WHERE NOT EXISTS (
        SELECT 1 FROM quotas q WHERE q.account_id = a.id AND q.cost_used >= a.hard_cap
            AND q.period_start = (billing_period(a.billing_anchor, now())).period_start
    )
""")

# A skip scan over the plans, one probe each.
_PLANS_WITH_WORK = text("""
    WITH RECURSIVE waiting AS (
        (SELECT plan FROM batches WHERE state = 'in_progress' AND (cursor < total OR returned > 0) AND NOT held_back
         ORDER BY plan LIMIT 1)
        UNION ALL
        SELECT (SELECT b.plan FROM batches b
                WHERE b.plan > waiting.plan AND b.state = 'in_progress' AND (b.cursor < b.total OR b.returned > 0)
                    AND NOT b.held_back
                ORDER BY b.plan LIMIT 1)
        FROM waiting WHERE waiting.plan IS NOT NULL
    )
    SELECT plan FROM waiting WHERE plan IS NOT NULL
""")

# A young batch's task is still on its way to the queue. What is taken from a queue was put there first, so that tasks
# that were lost are among the oldest.
_VALIDATING = text("""
    SELECT id FROM batches WHERE state = 'validating' AND created_at < now() - interval '2 seconds'
    ORDER BY created_at LIMIT 1000
""")

# The lock is only tried here: the ingest that holds it is at work.
_UNREAD = text(
    "SELECT id FROM unnest(CAST(:ids AS uuid[])) AS b (id) WHERE pg_try_advisory_xact_lock(:lock, hashtext(id::text))"
)

_UNCLOSED = text("""
    SELECT id FROM batches WHERE (cursor < total OR returned > 0)
        AND (state = 'cancelling' AND cancelling_at < now() - interval '2 seconds' OR state = 'expiring')
    ORDER BY created_at LIMIT 1000
""")

_RETRYING = text("SELECT id FROM batches WHERE retrying ORDER BY id LIMIT 1000")
