"""Changing one's address: the new one is proven by a link, and the old one is told."""

from sqlalchemy.exc import IntegrityError

from common import audit, guesses, links, mailed_tokens, mails, passwords, users
from common.database import as_owner
from common.even_time import even_time
from common.mailed_tokens import About
from common.people import Person


def ask(person: Person, password: str, email: str, address: str) -> None:
    """Has a link mailed to the new address; the same where it is a user's already, who is told instead. Raises
    PermissionDenied for a wrong password, InvalidRequest, and RateLimited."""
    email = users.normal(email)
    user = passwords.proven(person, password, "password")
    guesses.of_mail(address, email)
    with even_time(), as_owner() as connection:
        taken = users.by_email(connection, email)
        if taken is not None and taken.verified:
            mails.write(connection, email, "address_known", {"link": links.to(links.LOG_IN)})
        else:
            token = mailed_tokens.issue(connection, "change-email", About(email, user.id, user.version))
            mails.write(connection, email, "email_change", {"link": links.to(links.CONFIRM_EMAIL, token)})


def confirm(token: str) -> None:
    """The new address is the user's. What was mailed to the old one is no longer good, and the sessions go on. Raises
    InvalidRequest for a link that is not good."""
    try:
        with as_owner() as connection:
            about = mailed_tokens.use(connection, "change-email", token).about
            if about.user_id is None:
                raise mailed_tokens.refusal()
            before = users.set_email(connection, about.user_id, about.version, about.email)
            if before is None:
                raise mailed_tokens.refusal()
            mails.write(connection, before, "email_changed")
            audit.record(connection, users.actor(about.user_id), "user.email_change", None)
    except IntegrityError:
        # Somebody else took the address in this moment.
        raise mailed_tokens.refusal() from None
