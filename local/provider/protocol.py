"""HTTP/1.1 on one event loop: parses requests with httptools, asks the service, delivers its replies.

A protocol of our own, because the well-kept alternative leaves nothing of the budget of 0.1 ms of CPU a request.
Requests per CPU second of the server process, 2.5 GHz, bodies of 514 bytes; the first two only parse the JSON and send
a fixed answer, on an idle machine; the third is the median on a machine busy with other work, its best was 15,000:
                                               64 connections, 0 s   1,024 connections, 0 s   1,024 connections, 0.5 s
  uvicorn (uvloop, httptools), raw ASGI              12,100                10,300                   6,300
  asyncio.Protocol over httptools, uvloop            25,600                22,700                  21,100
  this provider, busy machine                         9,800                 9,400                   8,500
What is rare (streams, drips) is delivered by a coroutine, which reads better.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from typing import cast

import httptools

from local.provider import errors
from local.provider.delivery import Outbox, Waits
from local.provider.reply import End, Reply, Request

MAX_BODY_BYTES = 32 * 2**20

log = logging.getLogger(__name__)

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_REQUEST_PREFIX = f"req_{os.urandom(8).hex()}".encode()
_request_numbers = count(1)


class Connection(asyncio.Protocol):
    """One client connection. Requests are answered one at a time, in order, also when the client pipelines them."""

    def __init__(
        self, answer: Callable[[Request], Reply], waits: Waits, outbox: Outbox, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._answer = answer
        self._waits = waits
        self._outbox = outbox
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._reply: Reply | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._keep_alive = True
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is no subclass of asyncio's

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # The request was read and is answered as HTTP/1.1, which a client that offers an upgrade allows for.
        except httptools.HttpParserError:
            self._refuse(errors.NOT_HTTP)

    # What the parser calls, in this order.

    def on_message_begin(self) -> None:
        self._url = self._authorization = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 13 and name.lower() == b"authorization":
            self._authorization = value
        elif len(name) == 6 and name.lower() == b"expect":
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        if self._expects_continue and self._reply is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refuse(errors.TOO_LARGE)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        method = parser.get_method()
        request = Request(method, self._url.partition(b"?")[0], self._authorization, b"".join(self._body))
        # After an offer to upgrade the parser reads nothing; a reply to HEAD has a body here, which only closing ends.
        keep_alive = parser.should_keep_alive() and not parser.should_upgrade() and method != b"HEAD"
        if self._reply is None and not self._waiting:
            self._begin(request, keep_alive)
        else:
            self._waiting.append((request, keep_alive))
            self._transport.pause_reading()

    # From a request to its reply.

    def _begin(self, request: Request, keep_alive: bool) -> None:
        if self._transport.is_closing():
            return
        self._keep_alive = keep_alive
        try:
            reply = self._answer(request)
        # Whatever it is, the caller gets an answer, as from a real provider.
        except Exception:
            log.exception("the simulated provider failed at %r", request.path)
            reply = errors.SERVER_ERROR.reply()
        self._reply = reply
        if reply.end is End.NEVER:
            return
        if reply.delay:
            self._waits.add(reply.delay, self._deliver)
        else:
            self._deliver()

    def _deliver(self) -> None:
        reply = self._reply
        if reply is None:
            return  # The client has left since.
        if reply.end is End.RESET:
            self._transport.abort()
        elif reply.pieces is None:
            self._outbox.add(self._write_whole)
        else:
            self._task = self._loop.create_task(self._deliver_pieces(reply, reply.pieces))

    def _write_whole(self) -> None:
        reply = self._reply
        if reply is not None:
            self._transport.write(self._head(reply) + reply.body)
            self._finish(reply)

    async def _deliver_pieces(self, reply: Reply, pieces: list[tuple[float, bytes]]) -> None:
        write = self._transport.write
        write(self._head(reply))
        for pause, piece in pieces:
            if pause:
                await asyncio.sleep(pause)
            write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.chunked else piece)
        self._task = None
        if reply.end is End.CUT:
            self._transport.close()
            return
        if reply.chunked:
            write(b"0\r\n\r\n")
        self._finish(reply)

    def _head(self, reply: Reply) -> bytes:
        return b"%bx-request-id: %b%012x\r\ncontent-type: %b\r\n%b%b%b\r\n" % (
            _STATUS_LINES[reply.status],
            _REQUEST_PREFIX,
            next(_request_numbers),
            reply.content_type,
            reply.headers,
            b"transfer-encoding: chunked\r\n" if reply.chunked else b"content-length: %d\r\n" % len(reply.body),
            b"" if self._keep_alive else b"connection: close\r\n",
        )

    def _finish(self, reply: Reply) -> None:
        self._reply = None
        if reply.ended is not None:
            reply.ended(True)
        if not self._keep_alive:
            self._transport.close()
        elif self._waiting:
            self._loop.call_soon(self._begin_next)

    def _begin_next(self) -> None:
        if self._waiting:
            request, keep_alive = self._waiting.popleft()
            if not self._waiting:
                self._transport.resume_reading()
            self._begin(request, keep_alive)

    def _refuse(self, error: errors.Error) -> None:
        """Answer what is no request, and close: where the next one would begin is not known."""
        if not self._transport.is_closing():
            self._keep_alive = False
            if self._reply is None:
                reply = error.reply()
                self._transport.write(self._head(reply) + reply.body)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        if self._reply is not None and self._reply.ended is not None:
            self._reply.ended(False)
        self._reply = None
        del self._parser  # It refers back to this connection; without it both go at once.
