"""Users: the people, each known by an address. What they are in an account, common/members.py has."""

import unicodedata
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from common import accounts, ids, mail_addresses, members, plans
from common.audit import Actor
from common.database import as_owner
from common.plans import FREE


class User(NamedTuple):
    """A user as what checks them needs them. `version` counts up with the password and the address."""

    id: UUID
    email: str
    password_hash: str | None
    version: int
    verified: bool


def normal(email: str) -> str:
    """The address as it is kept and compared: in small letters, without the spaces around it. Raises InvalidRequest for
    what is none."""
    # One letter may be written in several ways that look alike.
    found = unicodedata.normalize("NFC", email.strip()).lower()
    mail_addresses.check(found)
    return found


def shown_id(user_id: UUID) -> str:
    return ids.show("user_", user_id)


def actor(user_id: UUID) -> Actor:
    """The user, for the audit log, where they act on themselves."""
    return Actor(shown_id(user_id))


def find(email: str) -> User | None:
    """The user with this address, which is a normal one."""
    with as_owner() as connection:
        return by_email(connection, email)


def by_email(connection: Connection, email: str) -> User | None:
    """As find, in the owner's transaction."""
    row = connection.execute(_BY_EMAIL, {"email": email}).one_or_none()
    return User(*row) if row is not None else None


def get(user_id: UUID) -> User | None:
    """The user, or None."""
    with as_owner() as connection:
        row = connection.execute(_BY_ID, {"id": user_id}).one_or_none()
    return User(*row) if row is not None else None


def store_unverified(connection: Connection, email: str, password_hash: str, account_name: str) -> User | None:
    """A new user whose address nobody has proven yet, or one more try of such a one, with which the earlier are no
    longer good; None where the address is a verified user's."""
    values = {"id": ids.new_id(), "email": email, "password_hash": password_hash, "account_name": account_name}
    row = connection.execute(_STORE_UNVERIFIED, values).one_or_none()
    return User(*row) if row is not None else None


def store_verified(connection: Connection, email: str, password_hash: str | None) -> User | None:
    """A new user who has proven the address, with no account yet; None where the address is a verified user's. An
    unverified user with it is this one from now on."""
    values = {"id": ids.new_id(), "email": email, "password_hash": password_hash}
    row = connection.execute(_STORE_VERIFIED, values).one_or_none()
    return User(*row) if row is not None else None


def verify(connection: Connection, user_id: UUID, version: int) -> bool:
    """Notes that the user has proven the address, and makes the account that they signed up for. False where the
    address or the password is another by now; once more changes nothing."""
    row = connection.execute(_LOCK, {"id": user_id, "version": version}).one_or_none()
    if row is None:
        return False
    if not row.verified:
        connection.execute(_VERIFY, {"id": user_id})
        if row.account_name is not None and may_open_account():
            open_account(connection, user_id, row.account_name)
    return True


def may_open_account() -> bool:
    """Whether people open accounts by themselves: not where the plans have no free one. There, they are invited."""
    return FREE in plans.plans()


def open_account(connection: Connection, user_id: UUID, name: str) -> UUID:
    """A new account on the free plan, of which the user is the owner."""
    account = accounts.open_one(connection, name, FREE, actor(user_id))
    members.join(connection, account.id, user_id, "owner")
    return account.id


def set_password(connection: Connection, user_id: UUID, version: int, password_hash: str) -> int | None:
    """The new version; None where it is another than `version` by now, so that of two changes one is refused."""
    values = {"id": user_id, "version": version, "password_hash": password_hash}
    found: int | None = connection.execute(_SET_PASSWORD, values).scalar()
    return found


def set_email(connection: Connection, user_id: UUID, version: int, email: str) -> str | None:
    """Gives a verified user another address, and gives back the one before; None as with set_password, or where the
    address is a verified user's. Somebody who signed up with it and has not proven it loses that."""
    connection.execute(_FREE_EMAIL, {"email": email})
    values = {"id": user_id, "version": version, "email": email}
    before: str | None = connection.execute(_SET_EMAIL, values).scalar()
    return before


_COLUMNS = "id, email, password_hash, credentials_version, email_verified_at IS NOT NULL"
_BY_EMAIL = text(f"SELECT {_COLUMNS} FROM users WHERE email = :email")
_BY_ID = text(f"SELECT {_COLUMNS} FROM users WHERE id = :id")
_STORE_UNVERIFIED = text(f"""
    INSERT INTO users AS u (id, email, password_hash, account_name)
    VALUES (:id, :email, :password_hash, :account_name)
    ON CONFLICT (email) DO UPDATE SET password_hash = excluded.password_hash, account_name = excluded.account_name,
        created_at = now(), credentials_version = u.credentials_version + 1
    WHERE u.email_verified_at IS NULL RETURNING {_COLUMNS}
""")
_STORE_VERIFIED = text(f"""
    INSERT INTO users AS u (id, email, password_hash, email_verified_at)
    VALUES (:id, :email, :password_hash, now())
    ON CONFLICT (email) DO UPDATE SET password_hash = excluded.password_hash, account_name = NULL,
        email_verified_at = now(), credentials_version = u.credentials_version + 1
    WHERE u.email_verified_at IS NULL RETURNING {_COLUMNS}
""")
_LOCK = text("""
    SELECT email_verified_at IS NOT NULL AS verified, account_name FROM users
    WHERE id = :id AND credentials_version = :version FOR NO KEY UPDATE
""")
_VERIFY = text("UPDATE users SET email_verified_at = now(), account_name = NULL WHERE id = :id")
_SET_PASSWORD = text("""
    UPDATE users SET password_hash = :password_hash, credentials_version = credentials_version + 1
    WHERE id = :id AND credentials_version = :version RETURNING credentials_version
""")
_FREE_EMAIL = text("DELETE FROM users WHERE email = :email AND email_verified_at IS NULL")
# Whoever takes the address at the same moment is waited for by the unique index, and raises there.
_SET_EMAIL = text("""
    WITH before AS (
        SELECT id, email FROM users WHERE id = :id AND credentials_version = :version
            AND NOT EXISTS (SELECT 1 FROM users taken WHERE taken.email = :email)
        FOR UPDATE
    )
    UPDATE users u SET email = :email, credentials_version = u.credentials_version + 1
    FROM before WHERE u.id = before.id RETURNING before.email
""")
