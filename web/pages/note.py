"""What one page tells the next: that something was done, and a new API key, which is shown once.

It travels in a cookie, sealed, and goes when it is shown. Who makes a key and never sees the next page has a key that
nobody knows: it stands in the list and can be revoked.
"""

from dataclasses import asdict, dataclass

from cryptography.fernet import InvalidToken
from flask import g
from werkzeug.wrappers import Response

from common import json_text, sealing
from web.pages import cookies

PURPOSE = "pages:note"


@dataclass(frozen=True, slots=True)
class Note:
    """`key` is an API key, `name` its name."""

    text: str | None = None
    key: str | None = None
    name: str | None = None


def leave(answer: Response, note: Note) -> Response:
    """Has the page that this answer leads to show it."""
    sealed = sealing.cipher(PURPOSE).encrypt(json_text.dumps(asdict(note)))
    cookies.NOTE.keep(answer, sealed.decode())
    return answer


def take() -> Note:
    """What the page before left, or nothing. Once a page has it, the cookie goes with its answer."""
    sealed = cookies.NOTE.read()
    if sealed is None:
        return Note()
    g.note_taken = True
    try:
        # As bytes: of text that is more than ASCII it says something else than that it is no token.
        shown = sealing.cipher(PURPOSE).decrypt(
            sealed.encode("utf-8", "replace"), int(cookies.NOTE.life.total_seconds())
        )
        return Note(**json_text.loads(shown))
    except InvalidToken:
        return Note()


def clear(answer: Response) -> None:
    """Takes the cookie away where its note was taken."""
    if g.get("note_taken"):
        cookies.NOTE.forget(answer)
