"""Accounts: the tenants. Made by the operator; everything else belongs to one."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from common import ids, plans
from common.database import owner_engine
from common.errors import InvalidRequest, NotFound


@dataclass(frozen=True, slots=True)
class Account:
    id: UUID
    name: str
    plan: str
    created_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("acct_", self.id)


def create(name: str, plan: str) -> Account:
    """A new account on a plan. Raises InvalidRequest for an empty name or an unknown plan."""
    if not name.strip():
        raise InvalidRequest("The account's name is empty: give it one.", param="name")
    plans.get(plan)
    with owner_engine().begin() as connection:
        row = connection.execute(_INSERT, {"id": ids.new_id(), "name": name.strip(), "plan": plan}).one()
    return Account(**row._mapping)


def get(account_id: UUID | None) -> Account:
    """The account, or NotFound."""
    with owner_engine().begin() as connection:
        row = connection.execute(_SELECT, {"id": account_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such account.", param="account")
    return Account(**row._mapping)


def list_all() -> list[Account]:
    with owner_engine().begin() as connection:
        return [Account(**row._mapping) for row in connection.execute(_LIST)]


_INSERT = text("INSERT INTO accounts (id, name, plan) VALUES (:id, :name, :plan) RETURNING id, name, plan, created_at")
_SELECT = text("SELECT id, name, plan, created_at FROM accounts WHERE id = :id")
_LIST = text("SELECT id, name, plan, created_at FROM accounts ORDER BY id")
