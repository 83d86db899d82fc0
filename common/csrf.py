"""Against requests that another site has a person's browser make: each form of a page carries a token of its session.

The JSON API takes no cookie, so that it needs none.
"""

import hmac
from uuid import UUID

from common.errors import PermissionDenied
from common.settings import settings


def token(session: UUID | str) -> str:
    """The token of a session: its id, or, before log-in, whatever random text its visitor's cookie holds."""
    name = session.hex if isinstance(session, UUID) else f"visitor:{session}"
    pepper = settings().secret_key.get_secret_value().encode()
    return hmac.digest(pepper, f"csrf:{name}".encode("utf-8", "replace"), "sha256").hex()


def check(session: UUID | str, sent: str | None) -> None:
    """Raises PermissionDenied for what is not the session's token."""
    if not hmac.compare_digest(token(session).encode(), (sent or "").encode("utf-8", "replace")):
        raise PermissionDenied(
            "This form is not of this session, or its session is over: open its page again.", code="csrf"
        )
