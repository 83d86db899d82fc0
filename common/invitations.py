"""Invitations: a link to an address, with which whoever has it joins an account in a role."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from common import audit, guesses, ids, links, mailed_tokens, mails, members, password_hashes, sessions, users
from common.audit import Actor
from common.database import as_owner
from common.errors import Conflict, NotFound, PermissionDenied
from common.mailed_tokens import LIFE, About
from common.people import Person
from common.roles import Role
from common.sessions import NewSession

MAX_PENDING = 100
# With the hash of an account's id, the advisory lock of whoever makes an invitation to it.
INVITATIONS_LOCK = 7_201_010


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation to an account."""

    id: UUID
    email: str
    role: Role
    status: Literal["pending", "accepted", "revoked", "expired"]
    created_at: datetime
    expires_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("inv_", self.id)


class Offer(NamedTuple):
    """What whoever holds a link is offered. `known` tells whether the address is a user's, who accepts it logged in;
    another chooses a password."""

    account_id: UUID
    account_name: str
    email: str
    role: Role
    known: bool


def make(actor: Actor, account_id: UUID, email: str, role: Role, invited_by: str) -> Invitation:
    """Invites whoever has the address, in the place of an earlier invitation. `invited_by` is who it says it comes
    from. Raises Conflict for a member and where too many are pending, InvalidRequest, and RateLimited."""
    email = users.normal(email)
    guesses.of_invitation(account_id, email)
    parameters = {
        "id": ids.new_id(),
        "account_id": account_id,
        "email": email,
        "role": role,
        "life": LIFE["invitation"],
    }
    with actor.transaction() as connection:
        connection.execute(_LOCK_ACCOUNT, {"lock": INVITATIONS_LOCK, "account_id": account_id})
        # A statement of its own: it has to see what whoever held the lock before us wrote.
        found = connection.execute(_LOOK, parameters).one_or_none()
        if found is None:
            raise NotFound("There is no such account.", param="account_id")
        if found.is_member:
            raise Conflict("Whoever has this address is a member already.", param="email", code="is_member")
        connection.execute(_REPLACE, parameters)
        if found.pending >= MAX_PENDING:
            raise Conflict(
                f"At most {MAX_PENDING} invitations are pending at once: revoke some.", code="too_many_invitations"
            )
        made = Invitation(**connection.execute(_INSERT, parameters).one()._mapping)
        token = mailed_tokens.issue(connection, "invitation", About(email, account_id=account_id), made.id)
        link = links.to(links.ACCEPT_INVITATION, token)
        said = {"link": link, "account": found.name, "role": role, "invited_by": invited_by}
        mails.write(connection, email, "invitation", said)
        audit.record(connection, actor, "invitation.create", account_id, invitation=made.shown_id, role=role)
    return made


def list_page(actor: Actor, account_id: UUID, after: str | None, limit: int) -> Sequence[Invitation]:
    """Up to `limit` invitations of the account, newest first, those made before the invitation `after`."""
    parameters = {"account_id": account_id, "after": ids.parse_after("inv_", after), "limit": limit}
    with actor.transaction() as connection:
        return [Invitation(**row._mapping) for row in connection.execute(_LIST, parameters)]


def revoke(actor: Actor, account_id: UUID, invitation_id: str) -> Invitation:
    """Its link is no longer good. Once more changes nothing. Raises NotFound, and Conflict for one that was
    accepted."""
    parameters = {"account_id": account_id, "id": ids.parse("inv_", invitation_id)}
    with actor.transaction() as connection:
        row = connection.execute(_REVOKE, parameters).one_or_none()
        if row is not None:
            audit.record(connection, actor, "invitation.revoke", account_id, invitation=invitation_id)
        else:
            row = connection.execute(_GET, parameters).one_or_none()
    if row is None:
        raise NotFound(f"There is no invitation {invitation_id[:200]!r}.", param="invitation_id")
    if row.status == "accepted":
        raise Conflict("The invitation was accepted: remove the member.", param="invitation_id")
    return Invitation(**row._mapping)


def offered(token: str) -> Offer:
    """What the link offers, while it is good. Raises InvalidRequest."""
    found = mailed_tokens.read("invitation", token)
    with as_owner() as connection:
        row = connection.execute(_OFFER, {"id": found.id}).one_or_none()
    if row is None:
        raise mailed_tokens.refusal()
    return Offer(*row)


def accept(person: Person, token: str) -> UUID:
    """Makes the person a member of the account, which it gives. Raises InvalidRequest for a link that is not good, and
    PermissionDenied where it is another address's."""
    about = mailed_tokens.read("invitation", token).about
    if about.email != person.email:
        raise PermissionDenied(
            "This invitation is for another address: log in with that one.", param="token", code="other_address"
        )
    with as_owner() as connection:
        return _join(connection, _taken(connection, token), person.user_id)


def accept_as_new(token: str, password: str, address: str, *, page: bool = True) -> NewSession:
    """As accept, for an address that is no user's: it is one from now on, with this password and a session. Raises
    Conflict where it is one already."""
    offer = offered(token)
    if offer.known:
        raise _known()
    password_hash = password_hashes.make(password)
    with as_owner() as connection:
        taken = _taken(connection, token)
        user = users.store_verified(connection, offer.email, password_hash)
        if user is None:
            raise _known()
        account_id = _join(connection, taken, user.id)
        made = sessions.begin(connection, user.id, user.version, address, page=page, account_id=account_id)
    if made is None:
        raise _known()
    return made


def _known() -> Conflict:
    return Conflict("This address has an account: log in with it, and follow the link again.", code="address_known")


class _Taken(NamedTuple):
    """An invitation that its link was used for."""

    id: UUID
    account_id: UUID
    role: Role


def _taken(connection: Connection, token: str) -> _Taken:
    found = mailed_tokens.use(connection, "invitation", token)
    row = connection.execute(_ACCEPT, {"id": found.id}).one_or_none()
    if row is None:
        raise mailed_tokens.refusal()
    return _Taken(*row)


def _join(connection: Connection, taken: _Taken, user_id: UUID) -> UUID:
    members.join(connection, taken.account_id, user_id, taken.role)
    audit.record(
        connection, users.actor(user_id), "invitation.accept", taken.account_id,
        invitation=ids.show("inv_", taken.id), role=taken.role,
    )  # fmt: skip
    return taken.account_id


_COLUMNS = """
    id, email, role, CASE WHEN accepted_at IS NOT NULL THEN 'accepted' WHEN revoked_at IS NOT NULL THEN 'revoked'
        WHEN expires_at <= now() THEN 'expired' ELSE 'pending' END AS status, created_at, expires_at
"""
_PENDING = "accepted_at IS NULL AND revoked_at IS NULL"
_LOCK_ACCOUNT = text("SELECT pg_advisory_xact_lock(:lock, hashtext(CAST(:account_id AS text)))")
_LOOK = text(f"""
    SELECT a.name,
        EXISTS (SELECT 1 FROM members m JOIN users u ON u.id = m.user_id
            WHERE m.account_id = a.id AND m.removed_at IS NULL AND u.email = :email) AS is_member,
        (SELECT count(*) FROM invitations i
            WHERE i.account_id = a.id AND {_PENDING} AND i.expires_at > now() AND i.email <> :email) AS pending
    FROM accounts a WHERE a.id = :account_id
""")
_REPLACE = text(f"""
    UPDATE invitations SET revoked_at = now() WHERE account_id = :account_id AND email = :email AND {_PENDING}
""")
_INSERT = text(f"""
    INSERT INTO invitations (id, account_id, email, role, expires_at)
    VALUES (:id, :account_id, :email, :role, now() + CAST(:life AS interval)) RETURNING {_COLUMNS}
""")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM invitations
    WHERE account_id = :account_id AND (CAST(:after AS uuid) IS NULL OR id < CAST(:after AS uuid))
    ORDER BY id DESC LIMIT :limit
""")
_GET = text(f"SELECT {_COLUMNS} FROM invitations WHERE account_id = :account_id AND id = :id")
_REVOKE = text(f"""
    UPDATE invitations SET revoked_at = now() WHERE account_id = :account_id AND id = :id AND {_PENDING}
    RETURNING {_COLUMNS}
""")
_OFFER = text(f"""
    SELECT i.account_id, a.name, i.email, i.role,
        EXISTS (SELECT 1 FROM users u WHERE u.email = i.email AND u.email_verified_at IS NOT NULL)
    FROM invitations i JOIN accounts a ON a.id = i.account_id
    WHERE i.id = :id AND i.{_PENDING.replace(" AND ", " AND i.")} AND i.expires_at > now()
""")
_ACCEPT = text(f"""
    UPDATE invitations SET accepted_at = now() WHERE id = :id AND {_PENDING} AND expires_at > now()
    RETURNING id, account_id, role
""")
