"""The links in mails: where people reach the web (PUBLIC_URL), and the pages there that take what a mail brings.

Each opens a page with a button, which sends the token on: programs that look through mail follow every link.
"""

from urllib.parse import quote

from common.settings import settings

LOG_IN = "/log-in"
BILLING = "/account/billing"
VERIFY_EMAIL = "/verify-email"
RESET_PASSWORD = "/reset-password"
CONFIRM_EMAIL = "/confirm-email"
ACCEPT_INVITATION = "/accept-invitation"


def to(page: str, token: str | None = None) -> str:
    """The address of a page, with the token that it is to send on."""
    query = f"?token={quote(token, safe='')}" if token is not None else ""
    return f"{settings().public_url}{page}{query}"
