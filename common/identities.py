"""Identities: who the operator's identity provider says that somebody is, and which user they are here.

An identity is a user's from its first token on, whatever address the provider gives it later. That first token has to
say that its address is verified: it may be a user's already, who then comes in by the provider as well.
"""

from typing import LiteralString
from uuid import UUID

from sqlalchemy import Connection, text

from common import audit, identity_tokens, ids, people, users
from common.database import as_owner, read_all
from common.errors import PermissionDenied
from common.identity_tokens import Identity
from common.people import Person


def of_token(token: str, wanted_account: str | None = None) -> Person:
    """Who sends a token of the identity provider. They work in the account with the id `wanted_account`, or in the
    first of theirs. Raises AuthenticationFailed, Unavailable, and PermissionDenied for one who has never come before
    and whose address the provider does not say to be verified."""
    identity = identity_tokens.check(token)
    # An id that is none's is no account of theirs.
    account_id = None if wanted_account is None else ids.parse("acct_", wanted_account) or UUID(int=0)
    person = _find(identity, account_id)
    if person is None:
        with as_owner() as connection:
            _take_in(connection, identity)
        person = _find(identity, account_id)
    assert person is not None, "an identity is not forgotten"
    return person


def _find(identity: Identity, account_id: UUID | None) -> Person | None:
    parameters = {"issuer": identity.issuer, "subject": identity.subject, "account_id": account_id}
    rows = read_all(_FIND, parameters)
    return people.of_row(dict(zip(_FOUND, rows[0], strict=True)), None) if rows else None


def _take_in(connection: Connection, identity: Identity) -> None:
    """Links the identity to the user with its address, or to a new one with an account. Of two requests that come at
    once, one does."""
    email = _verified_address(identity)
    names = {"issuer": identity.issuer, "subject": identity.subject}
    connection.execute(_LOCK, names)
    if connection.execute(_EXISTS, names).one_or_none() is not None:
        return
    # Somebody may have signed up with it and not proven that it is theirs: their password is not good then.
    new = users.store_verified(connection, email, None)
    user = new or users.by_email(connection, email)
    if user is None:
        raise PermissionDenied("Your address was just given up by its user: try again.", code="email_changed")
    if new is not None and users.may_open_account():
        users.open_account(connection, user.id, email)
    connection.execute(_LINK, names | {"user_id": user.id})
    audit.record(connection, users.actor(user.id), "identity.link", None, issuer=identity.issuer)


def _verified_address(identity: Identity) -> str:
    """The same refusal whether or not the address is a user's."""
    if identity.email is None:
        raise PermissionDenied(
            "The identity provider's token has no address of yours in 'email': have it put in, to come in for the"
            " first time.",
            code="identity_email_missing",
        )
    if not identity.email_verified:
        raise PermissionDenied(
            "The identity provider does not say in 'email_verified' that the address is yours: verify it there, to come"
            " in for the first time.",
            code="identity_email_unverified",
        )
    return users.normal(identity.email)


_FOUND = (
    "user_id", "email", "email_verified", "account_id", "role", "plan", "state", "overrides", "hard_cap",
    "period_start", "period_end", "accounts",
)  # fmt: skip
_FIND: LiteralString = """
    SELECT user_id, email, email_verified, account_id, role, plan, state, overrides, hard_cap, period_start, period_end,
        accounts
    FROM find_identity(%(issuer)s, %(subject)s, %(account_id)s::uuid)
"""
# Of one identity, until the end of the transaction.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:issuer || chr(10) || :subject, 0))")
_EXISTS = text("SELECT user_id FROM identities WHERE issuer = :issuer AND subject = :subject")
_LINK = text("INSERT INTO identities (issuer, subject, user_id) VALUES (:issuer, :subject, :user_id)")
