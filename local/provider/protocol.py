"""HTTP/1.1 on one event loop: parses requests with httptools, asks the service, delivers its replies.

A protocol of our own, because the well-kept alternative leaves too little of the budget of 0.1 ms of CPU a request.
Measured on one 2.5 GHz core, 514-byte chat bodies, an application that only parses the JSON and sends a fixed answer,
requests per CPU second of the server process:
                                        64 connections, 0 s    1,024 connections, 0 s    1,024 connections, 0.5 s
  uvicorn, raw ASGI, uvloop, httptools        12,100                  10,300                      6,300
  this protocol, uvloop, httptools            25,600                  22,700                     21,100
A wait costs one timer and no task. What is rare (streams, drips) is delivered by a coroutine, which reads better.
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
from local.provider.reply import End, Reply, Request

MAX_BODY_BYTES = 32 * 2**20

log = logging.getLogger(__name__)

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_REQUEST_PREFIX = f"req_{os.urandom(8).hex()}".encode()
_request_numbers = count(1)


class Outbox:
    """The whole replies of one turn of the loop, written together at its end.

    Written one by one, each would wake the client's process and let it run beside the next: on a virtual machine a
    fifth of the server's CPU went into waking.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: list[Callable[[], None]] = []

    def add(self, write: Callable[[], None]) -> None:
        if not self._ready:
            self._loop.call_soon(self._write_all)
        self._ready.append(write)

    def _write_all(self) -> None:
        ready, self._ready = self._ready, []
        for write in ready:
            write()


class Connection(asyncio.Protocol):
    """One client connection. Requests are answered one at a time, in order, also when the client pipelines them."""

    def __init__(self, answer: Callable[[Request], Reply], outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self._outbox = outbox
        self._answer = answer
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._reply: Reply | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._keep_alive = True
        self._timer: asyncio.TimerHandle | None = None
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
        except Exception:
            log.exception("the simulated provider failed at %r", request.path)
            reply = errors.SERVER_ERROR.reply()
        self._reply = reply
        if reply.end is End.NEVER:
            return
        if reply.delay:
            self._timer = self._loop.call_later(reply.delay, self._deliver, reply)
        else:
            self._deliver(reply)

    def _deliver(self, reply: Reply) -> None:
        self._timer = None
        if reply.end is End.RESET:
            self._transport.abort()
        elif reply.pieces is None:
            self._outbox.add(self._write_whole)
        else:
            self._task = self._loop.create_task(self._deliver_pieces(reply, reply.pieces))

    def _write_whole(self) -> None:
        reply = self._reply
        if reply is not None:  # Otherwise the client has left since.
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
        for waiting in (self._timer, self._task):
            if waiting is not None:
                waiting.cancel()
        if self._reply is not None and self._reply.ended is not None:
            self._reply.ended(False)
        self._reply = None
        del self._parser  # It refers back to this connection; without it both go at once.
