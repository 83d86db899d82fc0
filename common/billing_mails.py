"""Mails about plans and payments, to those members who may do something about them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from common import links, mails


def plan_changed(connection: Connection, account_id: UUID, plan: str) -> None:
    """The account is on another plan from now on."""
    for address in _recipients(connection, account_id):
        mails.write(connection, address, "plan_changed", {"plan": plan})


def payment_failed(connection: Connection, account_id: UUID, until: datetime) -> None:
    """A payment of the account's has failed; until then it keeps its plan."""
    values = {"link": links.to(links.BILLING), "until": f"{until:%-d %B %Y, %H:%M} UTC"}
    for address in _recipients(connection, account_id):
        mails.write(connection, address, "payment_failed", values)


def _recipients(connection: Connection, account_id: UUID) -> list[str]:
    return list(connection.execute(_RECIPIENTS, {"account_id": account_id}).scalars())


_RECIPIENTS = text("""
    SELECT u.email FROM members m JOIN users u ON u.id = m.user_id
    WHERE m.account_id = :account_id AND m.removed_at IS NULL AND m.role IN ('owner', 'billing')
        AND u.email_verified_at IS NOT NULL
    ORDER BY u.id
""")
