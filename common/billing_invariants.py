"""What must be true of plans that are paid for. As in common/invariants.py, the checks read one snapshot and return
findings."""

from datetime import datetime

from sqlalchemy import Connection, text

from common import billed_plans, ids, plans
from common.invariants import Finding

# The sweep settles in seconds what is due.
LATE_MINUTES = 1


def billing(connection: Connection) -> list[Finding]:
    """Accounts whose plan does not follow from what Stripe told, that pay twice, or for a plan that there is not, or
    that nobody here has."""
    return [
        *_unsettled(connection),
        *_paying_twice(connection),
        *_to_no_plan(connection),
        *_of_nobody(connection),
    ]


def _unsettled(connection: Connection) -> list[Finding]:
    found = []
    now: datetime = connection.execute(_NOW).scalar_one()
    for account in connection.execute(_BILLED, {"minutes": LATE_MINUTES}).all():
        wanted = billed_plans.stand(connection, account.id, now).plan
        if wanted is not None and wanted != account.billed_plan:
            problem = f"Stripe's events give it the plan {wanted}, and it was given {account.billed_plan}"
            found.append(Finding("billing", ids.show("acct_", account.id), problem))
    return found


def _paying_twice(connection: Connection) -> list[Finding]:
    return [
        Finding("billing", ids.show("acct_", row.account_id), f"pays for {row.subscriptions} subscriptions at once")
        for row in connection.execute(_TWICE)
    ]


def _to_no_plan(connection: Connection) -> list[Finding]:
    return [
        Finding("billing", row.id, f"is to the plan {row.plan}, which the plans file does not have: it gives nothing")
        for row in connection.execute(_TO_NO_PLAN, {"plans": list(plans.plans())})
    ]


def _of_nobody(connection: Connection) -> list[Finding]:
    problem = "is to a plan, and of a customer that no account here has: nobody gets what is paid"
    return [Finding("billing", row.id, problem) for row in connection.execute(_OF_NOBODY)]


_NOW = text("SELECT now()")
# What is about to change by time alone is the sweep's.
_BILLED = text("""
    SELECT a.id, a.billed_plan FROM accounts a
    WHERE EXISTS (SELECT 1 FROM stripe_subscriptions s WHERE s.account_id = a.id)
        AND (a.billing_due_at IS NULL OR a.billing_due_at NOT BETWEEN
            now() - make_interval(mins => :minutes) AND now())
    ORDER BY a.id
""")
_LIVE = """
    stripe_subscriptions s JOIN stripe_customers c ON c.id = s.customer
    WHERE s.ours AND NOT s.ended AND NOT c.deleted AND s.status IN ('active', 'trialing', 'past_due')
"""
_TWICE = text(f"""
    SELECT s.account_id, count(*) AS subscriptions FROM {_LIVE} AND s.account_id IS NOT NULL
    GROUP BY s.account_id HAVING count(*) > 1 ORDER BY s.account_id
""")
_TO_NO_PLAN = text(f"SELECT s.id, s.plan FROM {_LIVE} AND s.plan <> ALL(:plans) ORDER BY s.id")
_OF_NOBODY = text(f"SELECT s.id FROM {_LIVE} AND s.account_id IS NULL ORDER BY s.id")
