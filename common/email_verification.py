"""Proving an address: whoever follows the link that was mailed to it has it. Nobody can log in before."""

from contextlib import suppress

from sqlalchemy import Connection

from common import guesses, links, mailed_tokens, mails, users
from common.database import as_owner
from common.errors import RateLimited
from common.mailed_tokens import About
from common.users import User


def send(connection: Connection, user: User) -> None:
    """Has the link mailed to a user who has not proven the address yet."""
    token = mailed_tokens.issue(connection, "verify-email", About(user.email, user.id, user.version))
    mails.write(connection, user.email, "verify_email", {"link": links.to(links.VERIFY_EMAIL, token)})


def send_again(user: User) -> None:
    """As send, to somebody who knows the password; not where that was done too often."""
    with suppress(RateLimited):
        guesses.of_unproven(user.email)
        with as_owner() as connection:
            send(connection, user)


def verify(token: str) -> None:
    """The address is proven, and the account of whoever signed up with it is there. Raises InvalidRequest for a link
    that is not good."""
    with as_owner() as connection:
        about = mailed_tokens.use(connection, "verify-email", token).about
        if about.user_id is None or not users.verify(connection, about.user_id, about.version):
            raise mailed_tokens.refusal()
