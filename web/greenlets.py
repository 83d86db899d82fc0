"""The processes that serve web: each connection is a greenlet, and all greenlets of a process share one thread.

A request is a little work between waits for PostgreSQL, Redis and its client. Threads would spend as much again on
handing the interpreter to each other as on the requests. In return nothing is taken from a greenlet that does not wait:
what computes for long lets others go on between two pieces, and what blocks has it done by `common.shared_thread`.
"""

import contextlib
import os
import socket
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.threadpool import ThreadPool
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from common import interpreter, shared_thread
from common.settings import settings

# How long a stopping process keeps connections without a request, for one that a client may be sending already.
LINGER_SECONDS = 2.0
LOOK_SECONDS = 0.05
# What is left of a body that nobody read is taken so that the connection can go on, up to this much and for so long.
UNREAD_BYTES = 64 * 1024
UNREAD_SECONDS = 5.0


class Worker(GeventWorker):
    """gunicorn's own, but that it works on so many requests at once and no more, and that it ends with its last
    request: without these it would wait for clients which keep a connection and send nothing."""

    _stopping: Event | None = None

    def run(self) -> None:
        """Serves until it is told to stop, and then until the last request is answered."""
        self._places = BoundedSemaphore(settings().web_requests_at_once)
        stopping = self._stopping = Event()
        self._open: set[socket.socket] = set()
        self._idle: set[socket.socket] = set()
        shared_thread.use(_let_others, ThreadPool(settings().web_requests_at_once).apply)
        interpreter.tune()
        servers = [self._server(listener) for listener in self.sockets]
        while self.alive:
            self.notify()
            stopping.wait(1.0)
        for server in servers:
            server.stop_accepting()
        # What was accepted last asks its listener for its name.
        gevent.sleep(0)
        for server in servers:
            server.close()
        self._finish()
        for server in servers:
            server.stop(timeout=1)

    def _server(self, listener: Any) -> StreamServer:
        listener.setblocking(True)
        tls: dict[str, Any] = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        pool = Pool(self.worker_connections)
        server: StreamServer = StreamServer(listener, handle=partial(self.handle, listener), spawn=pool, **tls)
        # So that the connections which come at once are shared by all processes.
        server.max_accept = 1
        server.start()
        return server

    def _finish(self) -> None:
        linger_until = monotonic() + LINGER_SECONDS
        stop_at = monotonic() + self.cfg.graceful_timeout
        while self._open and (now := monotonic()) < stop_at:
            self.notify()
            if now > linger_until:
                for connection in self._idle:
                    _read_no_more(connection)
            # They end by themselves meanwhile.
            gevent.sleep(LOOK_SECONDS)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Is told to stop."""
        super().handle_exit(sig, frame)
        # While the app is being loaded there is nothing to wake.
        if self._stopping is not None:
            self._stopping.set()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """The greenlet of a connection."""
        self._open.add(client)
        self._idle.add(client)
        try:
            super().handle(listener, client, addr)
        finally:
            self._idle.discard(client)
            self._open.discard(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Answers one request of a connection."""
        self._idle.discard(sock)
        with self._places:
            super().handle_request(listener_name, req, sock, addr)
        if not _all_is_read(req):
            # gunicorn's way to say that the connection ends.
            raise StopIteration
        # The next request may be long in coming, which the keep-alive time bounds.
        sock.settimeout(None)
        self._idle.add(sock)
        return True


def _all_is_read(request: Any) -> bool:
    """Where gunicorn looks for the next request it would read on to the end, however long the body is."""
    if getattr(request.body.reader, "length", None) == 0:
        return True
    # Any error of the client's line, or of how the chunks of its body are formed.
    with contextlib.suppress(Exception, gevent.Timeout), gevent.Timeout(UNREAD_SECONDS):
        return not request.body.failed and len(request.body.read(UNREAD_BYTES)) < UNREAD_BYTES
    return False


def _read_no_more(connection: socket.socket) -> None:
    """What has come is still read, and behind it the connection ends."""
    # By a descriptor of its own: by the other, whoever waits for a request would have an error instead of an end.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_RD)


def _let_others() -> None:
    # With none at all, only those that can go on without a look at what they wait for would.
    gevent.sleep(0.000_001)
