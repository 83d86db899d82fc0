"""The cookie of a page's session: what a browser keeps, and no script and no other site gets to see."""

from flask import request
from werkzeug.wrappers import Response

from common.sessions import LIFE, NewSession
from common.settings import settings

# A browser takes a cookie of this name from its own host alone, and only over https (RFC 6265bis, 4.1.3.2).
SECURE_NAME = "__Host-batchyard"
# For the local stack, which speaks http.
PLAIN_NAME = "batchyard_session"


def read() -> str | None:
    """What the request's browser keeps, or None."""
    return request.cookies.get(_name())


def keep(response: Response, session: NewSession) -> None:
    """Has the browser keep the session's token for as long as it may last."""
    response.set_cookie(
        _name(),
        session.token,
        max_age=int(LIFE.total_seconds()),
        path="/",
        secure=_is_secure(),
        httponly=True,
        samesite="Lax",
    )


def forget(response: Response) -> None:
    """Has the browser forget it."""
    response.delete_cookie(_name(), path="/", secure=_is_secure(), httponly=True, samesite="Lax")


def _name() -> str:
    return SECURE_NAME if _is_secure() else PLAIN_NAME


def _is_secure() -> bool:
    return settings().public_url.startswith("https://")
