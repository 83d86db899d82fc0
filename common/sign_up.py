"""Signing up: an address, a password and what the account is called. Who it is shows when they follow the link."""

from common import email_verification, guesses, links, mails, names, password_hashes, users
from common.database import as_owner
from common.errors import PermissionDenied
from common.even_time import even_time


def sign_up(email: str, password: str, account_name: str, address: str) -> None:
    """Has a link mailed that opens the account, on the free plan and with the user as its owner. The same whether or
    not the address is a user's: whoever has it is told of that by mail. Done again before the link was followed, only
    the last one counts. Raises InvalidRequest, RateLimited, and PermissionDenied where the plans have no free one."""
    if not users.may_open_account():
        raise PermissionDenied(
            "Nobody signs up here by themselves: ask for an invitation to an account.",
            code="sign_up_closed",
        )
    email = users.normal(email)
    account_name = names.checked(account_name, "account")
    password_hashes.check(password)
    guesses.of_mail(address, email)
    password_hash = password_hashes.make(password)
    with even_time(), as_owner() as connection:
        user = users.store_unverified(connection, email, password_hash, account_name)
        if user is not None:
            email_verification.send(connection, user)
        else:
            mails.write(connection, email, "address_known", {"link": links.to(links.LOG_IN)})
