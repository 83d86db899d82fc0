"""Accounts: the tenants. Made and changed by the operator; everything else belongs to one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from sqlalchemy import Connection, text

from common import audit, ids, json_text, names, pauses, plan_moves, plans, queue, usage_thresholds
from common.audit import COMMAND_LINE, Actor
from common.database import as_owner
from common.errors import NotFound


@dataclass(frozen=True, slots=True)
class Account:
    """An account. `overrides` are its own values of its plan's limits; the caps are nano-dollars a billing period."""

    id: UUID
    name: str
    plan: str
    state: str
    overrides: dict[str, Any]
    soft_cap: int | None
    hard_cap: int | None
    billing_anchor: datetime
    created_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("acct_", self.id)


class Changes(TypedDict, total=False):
    """What is to be otherwise. An override or a cap that is None is taken away; overrides that are not named stay."""

    name: str
    plan: str
    overrides: Mapping[str, Any]
    soft_cap: int | None
    hard_cap: int | None


def create(name: str, plan: str, actor: Actor = COMMAND_LINE) -> Account:
    """A new account on a plan. Raises InvalidRequest for a bad name or an unknown plan."""
    with as_owner() as connection:
        return open_one(connection, name, plan, actor)


def open_one(connection: Connection, name: str, plan: str, actor: Actor) -> Account:
    """As create, in the owner's transaction."""
    name = names.checked(name, "account")
    plans.get(plan)
    account = Account(**connection.execute(_INSERT, {"id": ids.new_id(), "name": name, "plan": plan}).one()._mapping)
    audit.record(connection, actor, "account.create", account.id, name=name, plan=plan)
    return account


def get(account_id: UUID | None) -> Account:
    """The account, or NotFound."""
    with as_owner() as connection:
        return _get(connection, _SELECT, account_id)


def _get(connection: Connection, statement: Any, account_id: UUID | None) -> Account:
    row = connection.execute(statement, {"id": account_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such account.", param="account_id")
    return Account(**row._mapping)


def list_page(after: str | None, limit: int) -> Sequence[Account]:
    """Up to `limit` accounts, newest first, those made before the account `after`."""
    parameters = {"after": ids.parse_after("acct_", after), "limit": limit}
    with as_owner() as connection:
        return [Account(**row._mapping) for row in connection.execute(_LIST, parameters)]


def change(actor: Actor, account_id: UUID | None, changes: Changes) -> Account:
    """Another name, plan, limits or caps, from the next request on. Open batches go along to another plan; the sweep
    sees what another hard cap pauses or lets go on. Raises NotFound, and InvalidRequest naming what cannot be."""
    with as_owner() as connection:
        before = _get(connection, _LOCK, account_id)
        wanted = _changed(before, changes)
        after = Account(**connection.execute(_UPDATE, wanted | {"id": before.id}).one()._mapping)
        raised = before.soft_cap is not None and (after.soft_cap is None or after.soft_cap > before.soft_cap)
        limits = plans.with_overrides(after.plan, wanted["overrides"])
        usage_thresholds.tell_again(connection, after.id, limits, after.hard_cap, other_soft_cap=raised)
        if differences := _differences(before, after):
            audit.record(connection, actor, "account.change", before.id, **differences)
    if "plan" in changes:
        # Also when it is the same: an earlier move may have been cut off.
        plan_moves.move_open_batches(after.id, after.plan)
    # A higher limit may let more run at once.
    queue.announce_work(after.plan)
    return after


def _changed(before: Account, changes: Changes) -> dict[str, Any]:
    name = names.checked(changes.get("name", before.name), "account")
    plan = changes.get("plan", before.plan)
    overrides = before.overrides | dict(changes.get("overrides", {}))
    overrides = {limit: value for limit, value in overrides.items() if value is not None}
    plans.get(plan)
    encoded = json_text.dumps(overrides).decode()
    plans.with_overrides(plan, encoded)
    return {
        "name": name,
        "plan": plan,
        "overrides": encoded,
        "soft_cap": changes.get("soft_cap", before.soft_cap),
        "hard_cap": changes.get("hard_cap", before.hard_cap),
    }


def _differences(before: Account, after: Account) -> dict[str, Any]:
    old, new = asdict(before), asdict(after)
    return {field: {"from": old[field], "to": new[field]} for field in old if old[field] != new[field]}


def suspend(actor: Actor, account_id: UUID | None, reason: str) -> Account:
    """Refuses the account's keys from the next request on, and pauses its batches; the sweep pauses what becomes ready
    after that. Once more changes nothing. Raises NotFound."""
    with as_owner() as connection:
        # Batches are locked before accounts, by everybody.
        pauses.pause(connection, _get(connection, _SELECT, account_id).id, "account_suspended")
        account = _set_state(connection, actor, account_id, "suspended", "account.suspend", reason=reason)
    queue.announce_deliveries()
    return account


def resume(actor: Actor, account_id: UUID | None) -> Account:
    """Serves a suspended account again; its batches go on where they were. Raises NotFound."""
    with as_owner() as connection:
        plans_with_work = pauses.resume(
            connection, _get(connection, _SELECT, account_id).id, "account_suspended", suspended=False
        )
        account = _set_state(connection, actor, account_id, "active", "account.resume")
    for plan in plans_with_work:
        queue.announce_work(plan)
    queue.announce_deliveries()
    return account


def _set_state(
    connection: Connection, actor: Actor, account_id: UUID | None, state: str, action: str, **details: str
) -> Account:
    before = _get(connection, _LOCK, account_id)
    if before.state == state:
        return before
    audit.record(connection, actor, action, before.id, **details)
    return Account(**connection.execute(_SET_STATE, {"id": before.id, "state": state}).one()._mapping)


_COLUMNS = "id, name, plan, state, overrides, soft_cap, hard_cap, billing_anchor, created_at"
_INSERT = text(f"INSERT INTO accounts (id, name, plan) VALUES (:id, :name, :plan) RETURNING {_COLUMNS}")
_SELECT = text(f"SELECT {_COLUMNS} FROM accounts WHERE id = :id")
_LOCK = text(f"SELECT {_COLUMNS} FROM accounts WHERE id = :id FOR NO KEY UPDATE")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM accounts WHERE CAST(:after AS uuid) IS NULL OR id < CAST(:after AS uuid)
    ORDER BY id DESC LIMIT :limit
""")
_UPDATE = text(f"""
    UPDATE accounts SET name = :name, plan = :plan, overrides = CAST(:overrides AS jsonb), soft_cap = :soft_cap,
        hard_cap = :hard_cap, moving = moving OR plan <> :plan
    WHERE id = :id RETURNING {_COLUMNS}
""")
_SET_STATE = text(f"UPDATE accounts SET state = :state WHERE id = :id RETURNING {_COLUMNS}")
