"""The audit log: who did what to accounts, keys and the platform, written in the transaction of the act."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids, json_text
from common.database import as_account, as_owner


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an operator (`account_id` is None), who may do anything, or a key within its own account, which cannot
    give a scope that it lacks. `name` is what the log has: the key's shown id, or 'command line'."""

    name: str
    account_id: UUID | None = None
    scopes: tuple[str, ...] = ()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that sees what the actor may see: row-level security holds a key to its account."""
        with as_owner() if self.account_id is None else as_account(self.account_id) as connection:
            yield connection

    def lacks(self, scopes: Sequence[str]) -> list[str]:
        """Those of the scopes that it cannot give."""
        return [] if self.account_id is None else [scope for scope in scopes if scope not in self.scopes]


COMMAND_LINE = Actor("command line")


@dataclass(frozen=True, slots=True)
class Entry:
    """One act. `account_id` is the account that it was done to, None where it was the platform."""

    id: UUID
    created_at: datetime
    actor: str
    action: str
    account_id: UUID | None
    details: dict[str, Any]

    @property
    def shown_id(self) -> str:
        return ids.show("audit_", self.id)


def record(connection: Connection, actor: Actor, action: str, account_id: UUID | None, **details: Any) -> None:
    """Writes an act down, in its own transaction: both stay, or neither."""
    parameters = {
        "id": ids.new_id(),
        "actor": actor.name,
        "action": action,
        "account_id": account_id,
        "details": json_text.dumps(details).decode(),
    }
    connection.execute(_INSERT, parameters)


def list_page(account_id: UUID | None, after: str | None, limit: int) -> Sequence[Entry]:
    """Up to `limit` acts, newest first, those before the act `after`; of one account, or of all."""
    parameters = {"account_id": account_id, "after": ids.parse_after("audit_", after), "limit": limit}
    with as_owner() as connection:
        return [Entry(**row._mapping) for row in connection.execute(_LIST, parameters)]


_INSERT = text(
    "INSERT INTO audit_log (id, actor, action, account_id, details)"
    " VALUES (:id, :actor, :action, :account_id, CAST(:details AS jsonb))"
)
_LIST = text("""
    SELECT id, created_at, actor, action, account_id, details FROM audit_log
    WHERE (CAST(:account_id AS uuid) IS NULL OR account_id = :account_id)
        AND (CAST(:after AS uuid) IS NULL OR id < CAST(:after AS uuid))
    ORDER BY id DESC LIMIT :limit
""")
