"""Sessions: from log-in to log-out. Each is a row, which is looked up with every request: where it is gone, whatever
its holder still has is good for nothing.

A session of pages is held by a cookie. One of the JSON API is held by a refresh token, which is used once, for the
next one and a new access token: whoever uses one again has it from somebody else, and ends the session.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import Connection, text

from common import access_tokens, email_verification, guesses, ids, opaque_tokens, password_hashes, people, users
from common.database import as_owner, read_all
from common.errors import AuthenticationFailed, Conflict, NotFound
from common.even_time import even_time
from common.people import Person

LIFE = timedelta(days=30)
MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that was just begun or refreshed. `token` is what its holder keeps, the page's cookie or the refresh
    token; it is shown nowhere else."""

    id: UUID
    account_id: UUID | None
    token: str
    expires_at: datetime

    @property
    def access_token(self) -> str:
        return access_tokens.issue(self.id, self.account_id)


@dataclass(frozen=True, slots=True)
class Session:
    """What may be shown of a session. `is_page` tells one of a browser's from one of a program's."""

    id: UUID
    is_page: bool
    address: str
    created_at: datetime
    expires_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("sess_", self.id)


def log_in(email: str, password: str, address: str, *, page: bool = True) -> NewSession:
    """A new session of the user with this address and password. `address` is where the request comes from. Raises
    AuthenticationFailed, the same and as late for an unknown address, a wrong password, and an address that is not
    verified yet, which has another link mailed; RateLimited."""
    email = users.normal(email)
    guesses.of_password(address, email)
    user = users.find(email)
    good = password_hashes.matches(password, user.password_hash if user is not None else None)
    if user is None or not good or not user.verified:
        # Another answer would tell whoever signs up with somebody's address, and then logs in, whether it is a user's.
        with even_time():
            if user is not None and good:
                email_verification.send_again(user)
        raise _refused_log_in()
    with as_owner() as connection:
        made = begin(connection, user.id, user.version, address, page=page)
    if made is None:
        # Another password meanwhile.
        raise _refused_log_in()
    return made


def _refused_log_in() -> AuthenticationFailed:
    return AuthenticationFailed(
        "The address or the password is wrong, or the address is not verified yet: mend it, follow the link that was"
        " mailed, or reset the password.",
        code="invalid_login",
    )


def begin(
    connection: Connection,
    user_id: UUID,
    version: int,
    address: str,
    *,
    page: bool,
    account_id: UUID | None = None,
) -> NewSession | None:
    """A new session in an account, or in the first of theirs; None where the user's credentials are another version by
    now. It waits for whoever changes them, who ends it with the others."""
    token = opaque_tokens.new()
    values = {
        "id": ids.new_id(),
        "user_id": user_id,
        "version": version,
        "account_id": account_id,
        "page_hash": opaque_tokens.hash_of("page", token) if page else None,
        "address": address,
        "life": LIFE,
    }
    row = connection.execute(_BEGIN, values).one_or_none()
    if row is None:
        return None
    if not page:
        _keep_refresh_token(connection, row.id, token)
    return NewSession(row.id, row.account_id, token, row.expires_at)


def _keep_refresh_token(connection: Connection, session_id: UUID, token: str) -> None:
    connection.execute(_KEEP, {"hash": opaque_tokens.hash_of("refresh", token), "session_id": session_id})


def of_page(token: str) -> Person | None:
    """Whose session the page's cookie is of; None where that is over."""
    found = _find(None, opaque_tokens.hash_of("page", token))
    return found[0] if found is not None else None


def of_access_token(token: str) -> Person:
    """Who sends an access token. Raises AuthenticationFailed for one that is forged or over, whose session is, or in
    whose session another account was chosen."""
    named = access_tokens.read(token)
    found = _find(named.session_id, None) if named is not None else None
    if named is None or found is None or found[1] != named.account_id:
        raise AuthenticationFailed(
            "The access token is unknown or over: take a new one with your refresh token, or log in.",
            code="invalid_access_token",
        )
    return found[0]


def _find(session_id: UUID | None, page_hash: bytes | None) -> tuple[Person, UUID | None] | None:
    """The person, and the account that was chosen, whether or not they are still in it."""
    rows = read_all(_FIND, {"id": session_id, "page_hash": page_hash})
    if not rows:
        return None
    row = dict(zip(_FOUND, rows[0], strict=True))
    return people.of_row(row, row["session_id"]), row["chosen_account"]


def refresh(token: str) -> NewSession:
    """The next refresh token, with which a new access token comes. Raises AuthenticationFailed for one that is unknown
    or over; and for one that was used, which ends the session."""
    token_hash = opaque_tokens.hash_of("refresh", token)
    with as_owner() as connection:
        made = _refreshed(connection, token_hash)
    # Raised out here: the end of the session is to stay.
    if made is None:
        raise AuthenticationFailed(
            "The refresh token is unknown, used or over: log in again.", code="invalid_refresh_token"
        )
    return made


def _refreshed(connection: Connection, token_hash: bytes) -> NewSession | None:
    session_id = connection.execute(_SESSION_OF, {"hash": token_hash}).scalar()
    # The session before its tokens, as whoever ends it does.
    session = connection.execute(_LOCK, {"id": session_id}).one_or_none()
    if session is None:
        return None
    if connection.execute(_USE, {"hash": token_hash}).rowcount != 1:
        connection.execute(_END, {"ids": [session_id]})
        return None
    token = opaque_tokens.new()
    _keep_refresh_token(connection, session.id, token)
    return NewSession(session.id, session.account_id, token, session.expires_at)


def choose_account(person: Person, account_id: UUID | None) -> UUID:
    """The account that the person works in from now on, in this session, whose id it gives. Access tokens of another
    account are over. Raises NotFound for one that they are not in, and Conflict for who comes without a session."""
    if person.session_id is None:
        raise Conflict(
            "You come by an identity provider and have no session: name the account with each request, in the header"
            " Batchyard-Account.",
            code="no_session",
        )
    values = {"id": person.session_id, "user_id": person.user_id, "account_id": account_id}
    with as_owner() as connection:
        chosen: UUID | None = connection.execute(_CHOOSE, values).scalar()
    if chosen is None:
        raise NotFound("You are in no such account.", param="account_id")
    return chosen


def list_of(user_id: UUID) -> Sequence[Session]:
    """The user's newest sessions, newest first."""
    with as_owner() as connection:
        rows = connection.execute(_LIST, {"user_id": user_id, "limit": MAX_LISTED})
        return [Session(**row._mapping) for row in rows]


def end(user_id: UUID, session_id: str) -> None:
    """Ends one of the user's sessions. Raises NotFound."""
    found = ids.parse("sess_", session_id)
    with as_owner() as connection:
        if connection.execute(_END_OWN, {"user_id": user_id, "id": found}).rowcount != 1:
            raise NotFound(f"You have no session {session_id[:200]!r}.", param="session_id")


def log_out(session_id: UUID | None) -> None:
    """Ends a session. Once more changes nothing."""
    with as_owner() as connection:
        connection.execute(_END, {"ids": [session_id]})


def log_out_everywhere(user_id: UUID) -> None:
    """Ends every session of the user."""
    with as_owner() as connection:
        end_all(connection, user_id)


def end_all(connection: Connection, user_id: UUID) -> None:
    """As log_out_everywhere, in the owner's transaction."""
    connection.execute(_END_ALL, {"user_id": user_id})


_FOUND = (
    "session_id", "chosen_account", "user_id", "email", "email_verified", "account_id", "role", "plan", "state",
    "overrides", "hard_cap", "period_start", "period_end", "accounts",
)  # fmt: skip
_FIND: LiteralString = """
    SELECT session_id, chosen_account, user_id, email, email_verified, account_id, role, plan, state, overrides,
        hard_cap, period_start, period_end, accounts
    FROM find_session(%(id)s::uuid, %(page_hash)s::bytea)
"""
# A share of the user's row waits for whoever changes its credentials, and looks at them again then.
_BEGIN: Any = text("""
    INSERT INTO sessions (id, user_id, account_id, page_hash, address, expires_at)
    SELECT :id, u.id,
        coalesce(CAST(:account_id AS uuid), (SELECT m.account_id FROM members m
            WHERE m.user_id = u.id AND m.removed_at IS NULL ORDER BY m.created_at, m.account_id LIMIT 1)),
        :page_hash, :address, now() + CAST(:life AS interval)
    FROM users u WHERE u.id = :user_id AND u.credentials_version = :version FOR SHARE OF u
    RETURNING id, account_id, expires_at
""")
_KEEP = text("INSERT INTO refresh_tokens (hash, session_id) VALUES (:hash, :session_id)")
_SESSION_OF = text("SELECT session_id FROM refresh_tokens WHERE hash = :hash")
_LOCK = text("SELECT id, account_id, expires_at FROM sessions WHERE id = :id AND expires_at > now() FOR UPDATE")
_USE = text("UPDATE refresh_tokens SET used_at = now() WHERE hash = :hash AND used_at IS NULL")
_CHOOSE = text("""
    UPDATE sessions SET account_id = :account_id
    WHERE id = :id AND EXISTS (SELECT 1 FROM members m
        WHERE m.account_id = :account_id AND m.user_id = :user_id AND m.removed_at IS NULL)
    RETURNING id
""")
_LIST = text("""
    SELECT id, page_hash IS NOT NULL AS is_page, address, created_at, expires_at FROM sessions
    WHERE user_id = :user_id AND expires_at > now() ORDER BY id DESC LIMIT :limit
""")
_END = text("DELETE FROM sessions WHERE id = ANY(CAST(:ids AS uuid[]))")
_END_OWN = text("DELETE FROM sessions WHERE user_id = :user_id AND id = :id")
_END_ALL = text("DELETE FROM sessions WHERE user_id = :user_id")
