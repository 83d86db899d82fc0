"""What must be true of accounts and their people. As in common/invariants.py, each check reads one snapshot and returns
findings."""

from sqlalchemy import Connection, text

from common import ids, plans
from common.errors import InvalidRequest
from common.invariants import Finding


def owners(connection: Connection) -> list[Finding]:
    """Accounts that have members and no owner: nobody can let anybody in. Those that operators make have neither."""
    rows = connection.execute(_WITHOUT_OWNER)
    return [
        Finding("members", ids.show("acct_", row.account_id), f"has {row.members} members, and no owner")
        for row in rows
    ]  # fmt: skip


def plans_of_accounts(connection: Connection) -> list[Finding]:
    """Accounts whose plan the plans file lacks, or whose own limits it does not take any more: their requests are
    refused, and what they have waiting is not done."""
    found = []
    for row in connection.execute(_PLANS):
        try:
            plans.with_overrides(row.plan, row.overrides)
        except InvalidRequest as error:
            others = f" and {row.accounts - 1} more" if row.accounts > 1 else ""
            found.append(Finding("plans", ids.show("acct_", row.account_id) + others, error.message))
    return found


_PLANS = text("""
    SELECT plan, CAST(overrides AS text) AS overrides, count(*) AS accounts,
        CAST(min(CAST(id AS text)) AS uuid) AS account_id
    FROM accounts GROUP BY 1, 2 ORDER BY account_id
""")
_WITHOUT_OWNER = text("""
    SELECT account_id, count(*) AS members FROM members WHERE removed_at IS NULL
    GROUP BY account_id HAVING NOT bool_or(role = 'owner') ORDER BY account_id
""")
