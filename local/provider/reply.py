"""Requests and replies: what the service, which decides, and the protocol, which delivers, say to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

JSON = b"application/json"
HTML = b"text/html"
EVENTS = b"text/event-stream; charset=utf-8"

Piece = tuple[float, bytes]
"""Seconds to wait, then bytes to write."""


class Request(NamedTuple):
    method: bytes
    path: bytes
    authorization: bytes
    body: bytes


class End(Enum):
    """How the delivery of a reply ends."""

    WHOLE = "all of it is written"
    CUT = "the pieces are written, then the connection closes in the middle of the body"
    RESET = "the connection is reset before the first byte"
    NEVER = "nothing is written; the connection stays until the client leaves"


@dataclass(slots=True)
class Reply:
    """A status and a body, and how slowly and how badly it is delivered."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: bytes = b""
    """Further header lines, each ending in CRLF."""
    delay: float = 0.0
    """Seconds before the head is written."""
    pieces: list[Piece] | None = None
    """What is written instead of the body, piece by piece; the body then only says the length."""
    chunked: bool = False
    """The pieces are chunks of a body whose length is not said: a stream of events."""
    end: End = End.WHOLE
    ended: Callable[[bool], None] | None = None
    """Called once, when the reply was written whole (True) or its connection was gone before (False)."""
