"""What must be true of accounts and their people. As in common/invariants.py, the check reads one snapshot and returns
findings."""

from sqlalchemy import Connection, text

from common import ids
from common.invariants import Finding


def owners(connection: Connection) -> list[Finding]:
    """Accounts that have members and no owner: nobody can let anybody in. Those that operators make have neither."""
    rows = connection.execute(_WITHOUT_OWNER)
    return [
        Finding("members", ids.show("acct_", row.account_id), f"has {row.members} members, and no owner")
        for row in rows
    ]  # fmt: skip


_WITHOUT_OWNER = text("""
    SELECT account_id, count(*) AS members FROM members WHERE removed_at IS NULL
    GROUP BY account_id HAVING NOT bool_or(role = 'owner') ORDER BY account_id
""")
