"""A person at work: a user, in a session, in one of their accounts, with what their role there lets them do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from common import ids, json_text, plans, roles, users
from common.audit import Actor
from common.errors import PermissionDenied
from common.keys import Caller
from common.roles import Role


@dataclass(frozen=True, slots=True)
class Membership:
    """An account that a person is a member of."""

    account_id: UUID
    name: str
    role: Role

    @property
    def shown_id(self) -> str:
        return ids.show("acct_", self.account_id)


@dataclass(frozen=True, slots=True)
class Person:
    """Who sends a request. `account_id` is the account that they work in, None where they have none, and `role` is
    theirs there. `session_id` is None for whoever comes with an identity provider's token. `caller` is what applies to
    them in the account, for the verbs that a key may call too."""

    user_id: UUID
    email: str
    email_verified: bool
    account_id: UUID | None
    role: Role | None
    session_id: UUID | None
    accounts: tuple[Membership, ...]
    caller: Caller | None
    suspended: bool

    @property
    def shown_id(self) -> str:
        return users.shown_id(self.user_id)

    @property
    def scopes(self) -> tuple[str, ...]:
        return roles.scopes_of(self.role)

    def may(self, scope: str) -> bool:
        """Whether their role in the account has the scope, and the account is served."""
        return scope in self.scopes and not self.suspended

    def calling(self, scope: str) -> Caller:
        """As whom they call what needs the scope. Raises PermissionDenied, also without an
        account."""
        if self.caller is None:
            raise _without_account()
        if self.suspended:
            raise PermissionDenied("This account is suspended: its operator can resume it.", code="account_suspended")
        if scope not in self.scopes:
            raise PermissionDenied(
                f"Your role {self.role!r} lacks the scope {scope!r}: an owner of the account can give you another.",
                code="scope_missing",
            )
        return self.caller

    @property
    def working_in(self) -> UUID:
        """The account that they work in. Raises PermissionDenied without one."""
        if self.account_id is None:
            raise _without_account()
        return self.account_id

    @property
    def actor(self) -> Actor:
        """For the verbs that change something in the account, and for the audit log. Raises PermissionDenied as
        working_in does."""
        return Actor(self.shown_id, self.working_in, self.scopes)


def _without_account() -> PermissionDenied:
    return PermissionDenied("You work in no account here: choose one, or accept an invitation.", code="no_account")


def of_row(row: Mapping[str, Any], session_id: UUID | None) -> Person:
    """The person of a row of the database's `person_in`."""
    memberships = tuple(
        Membership(UUID(found["id"]), found["name"], found["role"]) for found in row["accounts"]
    )  # fmt: skip
    return Person(
        row["user_id"],
        row["email"],
        row["email_verified"],
        row["account_id"],
        row["role"],
        session_id,
        memberships,
        _caller(row) if row["account_id"] is not None else None,
        row["account_id"] is not None and row["state"] != "active",
    )


def _caller(row: Mapping[str, Any]) -> Caller:
    limits = plans.with_overrides(row["plan"], json_text.dumps(row["overrides"]).decode())
    return Caller(
        row["user_id"],
        row["account_id"],
        limits,
        roles.scopes_of(row["role"]),
        row["hard_cap"],
        row["period_start"],
        row["period_end"],
        is_person=True,
    )
