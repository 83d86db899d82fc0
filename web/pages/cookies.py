"""The cookies of the pages: what a browser keeps, and no script and no other site gets to see."""

from datetime import timedelta
from typing import NamedTuple

from flask import request
from werkzeug.wrappers import Response

from common import sessions
from common.settings import settings


class Cookie(NamedTuple):
    """A browser takes one of a `secure_name`, which begins with __Host-, from its own host alone and only over https
    (RFC 6265bis, 4.1.3.2); the `plain_name` is for the local stack, which speaks http."""

    secure_name: str
    plain_name: str
    life: timedelta

    def read(self) -> str | None:
        """What the request's browser keeps, or None."""
        return request.cookies.get(self._name)

    def keep(self, answer: Response, value: str) -> None:
        """Has the browser keep it, for its life."""
        answer.set_cookie(
            self._name, value, max_age=self.life, path="/", secure=over_tls(), httponly=True, samesite="Lax"
        )

    def forget(self, answer: Response) -> None:
        """Has the browser forget it."""
        answer.delete_cookie(self._name, path="/", secure=over_tls(), httponly=True, samesite="Lax")

    @property
    def _name(self) -> str:
        return self.secure_name if over_tls() else self.plain_name


def over_tls() -> bool:
    """Whether people reach us over https."""
    return settings().public_url.startswith("https://")


# The token of the session.
SESSION = Cookie("__Host-batchyard", "batchyard_session", sessions.LIFE)
# Of who has none: what binds the forms of their pages to their browser.
VISITOR = Cookie("__Host-batchyard-visitor", "batchyard_visitor", timedelta(days=1))
# What one page tells the next.
NOTE = Cookie("__Host-batchyard-note", "batchyard_note", timedelta(minutes=2))
