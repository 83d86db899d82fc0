"""Resetting a password that was forgotten, by a link to the user's address. It is no guess: who is kept out by the
guesses of others comes in this way."""

from sqlalchemy import Connection

from common import guesses, links, mailed_tokens, mails, password_hashes, passwords, users
from common.database import as_owner
from common.even_time import even_time
from common.mailed_tokens import About
from common.sessions import NewSession
from common.users import User


def ask(email: str, address: str) -> None:
    """Has a link mailed to the user with this address; the same where there is none. Raises InvalidRequest for what is
    no address, and RateLimited."""
    email = users.normal(email)
    guesses.of_reset(address, email)
    with even_time(), as_owner() as connection:
        user = users.by_email(connection, email)
        if user is not None:
            token = mailed_tokens.issue(connection, "reset-password", About(email, user.id, user.version))
            mails.write(connection, email, "reset_password", {"link": links.to(links.RESET_PASSWORD, token)})


def reset(token: str, password: str, address: str, *, page: bool = True) -> NewSession:
    """The new password, and a new session; all others are over. The address is proven by this too. Raises
    InvalidRequest for a link that is not good, or a password that is none."""
    about = mailed_tokens.read("reset-password", token).about
    # Before the hash: one link, once it was used, would have passwords hashed for ever.
    with as_owner() as connection:
        _user(connection, about)
    password_hash = password_hashes.make(password)
    with as_owner() as connection:
        mailed_tokens.use(connection, "reset-password", token)
        user = _user(connection, about)
        users.verify(connection, user.id, user.version)
        made = passwords.replaced(connection, user, password_hash, address, page=page)
        if made is None:
            raise mailed_tokens.refusal()
    return made


def _user(connection: Connection, about: About) -> User:
    """Whom the link is about, whose credentials are what they were: a link that was used has changed them."""
    user = users.by_email(connection, about.email)
    if user is None or (user.id, user.version) != (about.user_id, about.version):
        raise mailed_tokens.refusal()
    return user
