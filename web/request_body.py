"""The body of a request as its client sends it: the whole of it or an error, in plain bytes whatever its encoding."""

from flask import request
from werkzeug.exceptions import BadRequest, ClientDisconnected
from werkzeug.wsgi import get_content_length

from common import shared_thread
from common.errors import TooLarge
from common.settings import settings
from web import content_encoding
from web.content_encoding import Readable

# gunicorn copies all that it has received ahead for each read of a part of it, and receives as much as this ahead.
READ_BYTES = 1 << 20
# In chunks each byte may come by itself, and a mebibyte of those takes two seconds to put together.
CHUNKED_READ_BYTES = 1 << 14
# Where the environment of a request has its body as it was sent.
SENT = "batchyard.sent"


def receive() -> None:
    """Called before each request's view. Raises Unsupported for an encoding that is not read here."""
    environ = request.environ
    if (connection := environ.get("gunicorn.socket")) is not None:
        # A client that has gone without a word would be worked on, and hold what it has sent so far, for ever.
        connection.settimeout(settings().stall_seconds)
    limit = settings().max_upload_bytes
    length = get_content_length(environ)
    body = environ[SENT] = Sent(environ["wsgi.input"], length, limit)
    decode = content_encoding.decoder(request.headers.get("Content-Encoding"))
    if decode is None:
        environ["wsgi.input"] = body
        return
    if length is not None and length > limit:
        raise body.too_large()
    environ["wsgi.input"] = decode(body)
    # From here on this is a body whose length nobody has told, which has an end, and all limits hold for as it is read.
    environ["wsgi.input_terminated"] = True
    environ.pop("CONTENT_LENGTH", None)
    del environ["HTTP_CONTENT_ENCODING"]


class Sent:
    """The bytes that come over the connection. One that ends too early is an error, and never a shorter body."""

    def __init__(self, stream: Readable, length: int | None, limit: int) -> None:
        self._stream = stream
        self._length = length
        self._limit = limit
        self._received = 0
        self._piece = b""
        self._given = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, and none at the end. Raises ClientDisconnected, BadRequest and TooLarge."""
        if self._given == len(self._piece):
            self._piece = self._receive()
            self._given = 0
        given = self._piece[self._given : self._given + size]
        self._given += len(given)
        return given

    def _receive(self) -> bytes:
        try:
            piece = self._stream.read(READ_BYTES if self._length is not None else CHUNKED_READ_BYTES)
        except OSError:
            # Also for a body in chunks that ends without the last one.
            raise ClientDisconnected from None
        # The server's own errors for broken chunks have no other class in common.
        except Exception:
            raise BadRequest("The body's chunked encoding is damaged: send the request again.") from None
        self._received += len(piece)
        if not piece and self._length is not None and self._received < self._length:
            raise ClientDisconnected
        if self._received > self._limit:
            raise self.too_large()
        if self._received > len(piece):
            # A client may send as fast as this reads, so that it would never wait.
            shared_thread.let_others_go_on()
        return piece

    def skip(self, size: int) -> bool:
        """Takes up to `size` bytes more, whatever the limit and wherever the reading failed. False at the end."""
        shared_thread.let_others_go_on()
        return bool(self._stream.read(size))

    def too_large(self) -> TooLarge:
        return TooLarge(f"The body is over {self._limit:,} bytes: send less at once.", code="body_too_large")
