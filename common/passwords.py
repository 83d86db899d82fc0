"""Changing one's password, which ends every session that was begun with the old one."""

from sqlalchemy import Connection

from common import audit, guesses, mails, password_hashes, sessions, users
from common.database import as_owner
from common.errors import PermissionDenied
from common.people import Person
from common.sessions import NewSession
from common.users import User


def change(person: Person, old: str, new: str, address: str, *, page: bool = True) -> NewSession:
    """A new password, and a new session for whoever gave both; all others are over. Raises PermissionDenied for a
    wrong old one, InvalidRequest, and RateLimited."""
    password_hashes.check(new, "new_password")
    user = proven(person, old, "password")
    password_hash = password_hashes.make(new, "new_password")
    with as_owner() as connection:
        made = replaced(connection, user, password_hash, address, page=page)
    if made is None:
        raise _wrong("password")
    return made


def proven(person: Person, password: str, param: str) -> User:
    """The person's user, where this is their password. Raises PermissionDenied, and RateLimited."""
    guesses.of_own_password(person.user_id)
    user = users.get(person.user_id)
    good = password_hashes.matches(password, user.password_hash if user is not None else None)
    if user is None or not good:
        raise _wrong(param)
    return user


def replaced(
    connection: Connection, user: User, password_hash: str, address: str, *, page: bool
) -> NewSession | None:  # fmt: skip
    """The new password is there, every session is over but a new one, and the user is told; None, and nothing done,
    where the user's credentials are another version by now. In the owner's transaction."""
    version = users.set_password(connection, user.id, user.version, password_hash)
    if version is None:
        return None
    sessions.end_all(connection, user.id)
    mails.write(connection, user.email, "password_changed")
    audit.record(connection, users.actor(user.id), "user.password_change", None)
    return sessions.begin(connection, user.id, version, address, page=page)


def _wrong(param: str) -> PermissionDenied:
    return PermissionDenied("The password is not yours: mend it.", param=param, code="wrong_password")
