"""How often one may try: to log in, and to have mail sent to an address.

All tries count, the good ones too, in sliding windows that all web processes share (common/shared_windows.py) and that
pass: nobody is locked out for good. Who is kept out by the guesses of others still comes in by the link of a reset,
which is no guess.
"""

import hashlib
import math
from uuid import UUID

from limits.storage import storage_from_string

from common import shared_windows
from common.errors import RateLimited
from common.once import Once
from common.shared_windows import SharedWindows
from common.windows import Window, window

QUARTER_HOUR = 900
HOUR = 3_600
# From one address, for one user's and for all; and from everywhere for one user, where the guesses come from many.
LOG_INS_OF_BOTH = 10
LOG_INS_OF_ADDRESS = 100
LOG_INS_OF_EMAIL = 100
MAILS_TO_EMAIL = 5
# In a window of their own, as long as such a link is good: whoever fills it has had links mailed to whom they keep out.
RESETS_TO_EMAIL = 5
MAILS_OF_ADDRESS = 60
MAILS_OF_ACCOUNT = 100
OWN_PASSWORDS = 10


def of_password(address: str, email: str) -> None:
    """Counts a try to log in from an address. Raises RateLimited."""
    _count(
        window("log-in", _hidden(address, email), QUARTER_HOUR, LOG_INS_OF_BOTH),
        window("log-ins-of-address", _hidden(address), QUARTER_HOUR, LOG_INS_OF_ADDRESS),
        window("log-ins-of-email", _hidden(email), QUARTER_HOUR, LOG_INS_OF_EMAIL),
    )


def of_own_password(user_id: UUID) -> None:
    """Counts a try to give one's own password again. Raises RateLimited."""
    _count(window("own-password", user_id.hex, QUARTER_HOUR, OWN_PASSWORDS))


def of_mail(address: str, email: str) -> None:
    """Counts a request, from an address, that has a mail sent, whether or not it does. Raises RateLimited."""
    _count(
        window("mails-to-email", _hidden(email), HOUR, MAILS_TO_EMAIL),
        window("mails-of-address", _hidden(address), HOUR, MAILS_OF_ADDRESS),
    )


def of_reset(address: str, email: str) -> None:
    """Counts a request, from an address, for a link to reset a password, whether or not one is mailed. Raises
    RateLimited."""
    _count(
        window("mails-of-reset", _hidden(email), HOUR, RESETS_TO_EMAIL),
        window("mails-of-address", _hidden(address), HOUR, MAILS_OF_ADDRESS),
    )


def of_unproven(email: str) -> None:
    """Counts a log-in with the password of an address that nobody has proven, which has its link mailed again. Raises
    RateLimited. In a window that nothing else counts in: there it would show that the address is nobody's yet."""
    _count(window("mails-of-log-in", _hidden(email), HOUR, MAILS_TO_EMAIL))


def of_invitation(account_id: UUID, email: str) -> None:
    """Counts an invitation. Raises RateLimited."""
    _count(
        window("mails-to-email", _hidden(email), HOUR, MAILS_TO_EMAIL),
        window("mails-of-account", account_id.hex, HOUR, MAILS_OF_ACCOUNT),
    )


def _count(*windows: Window) -> None:
    room, left = _shared().take(windows)
    if not room:
        full = max((item for item in left if item.remaining == 0), key=lambda item: item.seconds, default=left[0])
        retry_after = max(1, math.ceil(full.seconds))
        raise RateLimited(
            f"That was tried too often: try again in {retry_after:,} s.", code="too_many_tries", retry_after=retry_after
        )


def _hidden(*parts: str) -> str:
    """Redis need not know who logs in."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@Once
def _shared() -> SharedWindows:
    storage = storage_from_string(shared_windows.storage_url(), **shared_windows.storage_options())
    return SharedWindows(storage)
