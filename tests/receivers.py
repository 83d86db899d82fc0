"""A server that webhooks are sent to: it does what its paths are told to, and remembers what came."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.waiting import wait_for

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Received:
    """A request; `at` is when it was whole, in seconds since 1970."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """`answers` says what each path does, one request after the other and the last for all that follow; any other
    path answers 200. `connections` counts what was connected at all."""

    port: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    # Nobody else holds on to one that waits for nothing.
    _serving: set[object] = field(default_factory=set)

    def at(self, path: str, *answers: Answer) -> str:
        """The http URL of a path that is to answer so."""
        if answers:
            self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, path: str) -> list[Received]:
        return [request for request in list(self.received) if request.path == path]

    def wait_for(self, path: str, requests: int, seconds: float = 30) -> list[Received]:
        return wait_for(lambda: self.of(path), lambda found: len(found) >= requests, seconds)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = head[0].split(" ")[1]
            self.received.append(Received(path, headers, body, time.time()))
            answers = self.answers.get(path, [])
            answer = answers.pop(0) if len(answers) > 1 else answers[0] if answers else status(200)
            await answer(writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
        self._serving.discard(asyncio.current_task())


def status(code: int, body: bytes = b"", **headers: str | Callable[[], str]) -> Answer:
    """Answers with this status. A header may be of the moment at which it is sent."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        sent = {name: value() if callable(value) else value for name, value in headers.items()}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in sent.items())
        writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)
        await writer.drain()

    return answer


def said(content: bytes) -> Answer:
    """Sends these bytes and no more."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return answer


def after(seconds: float, answer: Answer) -> Answer:
    """Answers so, but not at once."""

    async def wait(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await answer(writer)

    return wait


async def hang(writer: asyncio.StreamWriter) -> None:
    """Says nothing."""
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte of a long answer now and then."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.2)


async def flood(writer: asyncio.StreamWriter) -> None:
    """A gigabyte, or as much of it as is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    for _ in range(1024):
        writer.write(b"x" * 2**20)
        await writer.drain()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Begins an answer and breaks off with a RST."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await writer.drain()
    writer.transport.abort()


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a port of its own, in a thread of its own."""
    receiver = Receiver()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls, backlog=1024)

    async def stop() -> None:
        server.close()
        # Those that are being accepted begin others.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
