"""Members: the people of an account, each with a role. An account keeps at least one owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from common import audit, ids
from common.audit import Actor
from common.errors import Conflict, NotFound
from common.roles import Role


@dataclass(frozen=True, slots=True)
class Member:
    """A person of an account, since `created_at`."""

    user_id: UUID
    email: str
    role: Role
    created_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("user_", self.user_id)


def join(connection: Connection, account_id: UUID, user_id: UUID, role: Role) -> None:
    """Makes the user a member, or one again, in the owner's transaction. Who is one already keeps their role."""
    connection.execute(_JOIN, {"account_id": account_id, "user_id": user_id, "role": role})


def list_page(actor: Actor, account_id: UUID, after: str | None, limit: int) -> Sequence[Member]:
    """Up to `limit` members of the account, newest users first, those before the user `after`."""
    parameters = {"account_id": account_id, "after": ids.parse_after("user_", after), "limit": limit}
    with actor.transaction() as connection:
        return [Member(**row._mapping) for row in connection.execute(_LIST, parameters)]


def set_role(actor: Actor, account_id: UUID, user_id: str, role: Role) -> Member:
    """Gives a member another role, from their next request on. Raises NotFound, and Conflict for the only owner."""
    with actor.transaction() as connection:
        before = _locked(connection, account_id, user_id, other_role=role)
        if before.role != role:
            connection.execute(_SET_ROLE, {"account_id": account_id, "user_id": before.user_id, "role": role})
            audit.record(connection, actor, "member.role", account_id, user=before.shown_id, role=role)
        return _get(connection, account_id, user_id)


def remove(actor: Actor, account_id: UUID, user_id: str) -> Member:
    """Takes a member out of the account, from their next request on; their keys, which are the account's, stay. Raises
    NotFound, and Conflict for the only owner."""
    with actor.transaction() as connection:
        member = _locked(connection, account_id, user_id, other_role=None)
        connection.execute(_REMOVE, {"account_id": account_id, "user_id": member.user_id})
        audit.record(connection, actor, "member.remove", account_id, user=member.shown_id)
    return member


def _locked(connection: Connection, account_id: UUID, user_id: str, other_role: Role | None) -> Member:
    """The member, while nobody else makes or unmakes an owner. Raises Conflict where no owner would be left."""
    owners = connection.execute(_LOCK_OWNERS, {"account_id": account_id}).scalars().all()
    # A statement of its own: it has to see what whoever held the locks before us wrote.
    member = _get(connection, account_id, user_id)
    if list(owners) == [member.user_id] and other_role != "owner":
        raise Conflict(
            "An account keeps at least one owner: make somebody else an owner first.",
            param="user_id",
            code="last_owner",
        )
    return member


def _get(connection: Connection, account_id: UUID, user_id: str) -> Member:
    row = connection.execute(_GET, {"account_id": account_id, "user_id": ids.parse("user_", user_id)}).one_or_none()
    if row is None:
        raise NotFound(f"There is no member {user_id[:200]!r}.", param="user_id")
    return Member(**row._mapping)


_COLUMNS = "m.user_id, u.email, m.role, m.created_at"
_OF_ACCOUNT = "members m JOIN users u ON u.id = m.user_id WHERE m.account_id = :account_id AND m.removed_at IS NULL"
_JOIN = text("""
    INSERT INTO members AS m (account_id, user_id, role) VALUES (:account_id, :user_id, :role)
    ON CONFLICT (account_id, user_id) DO UPDATE SET role = excluded.role, created_at = now(), removed_at = NULL
    WHERE m.removed_at IS NOT NULL
""")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM {_OF_ACCOUNT} AND (CAST(:after AS uuid) IS NULL OR m.user_id < CAST(:after AS uuid))
    ORDER BY m.user_id DESC LIMIT :limit
""")
_GET = text(f"SELECT {_COLUMNS} FROM {_OF_ACCOUNT} AND m.user_id = :user_id")
_LOCK_OWNERS = text("""
    SELECT user_id FROM members WHERE account_id = :account_id AND role = 'owner' AND removed_at IS NULL
    ORDER BY user_id FOR NO KEY UPDATE
""")
_SET_ROLE = text("""
    UPDATE members SET role = :role
    WHERE account_id = :account_id AND user_id = :user_id AND removed_at IS NULL
""")
_REMOVE = text("""
    UPDATE members SET removed_at = now()
    WHERE account_id = :account_id AND user_id = :user_id AND removed_at IS NULL
""")
