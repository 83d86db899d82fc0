"""A keep-alive HTTP/1.1 load generator that costs a fraction of what it measures.

One asyncio.Protocol per connection, one request in flight on each, and no HTTP library: an answer is found by its
Content-Length alone. Run it under uvloop where there is one, and in another process than the server it drives.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length: "


@dataclass
class Figures:
    """What one drive() saw. Latencies are seconds from the last byte written to the last byte read."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    dropped: int = 0  # requests whose connection closed before the whole answer came
    bytes_read: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Requests that got a whole answer, whatever its status."""
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        """Whole answers per second of wall-clock time."""
        return self.answered / self.seconds if self.seconds else 0.0

    def latency(self, quantile: float) -> float:
        """The latency in seconds below which this share (0..1) of the answers came; 0 when there were none."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * quantile), len(ordered) - 1)] if ordered else 0.0


async def drive(
    host: str,
    port: int,
    path: str,
    bodies: Iterable[bytes],
    connections: int,
    headers: Mapping[str, str],
) -> Figures:
    """POST every body to the path, one in flight on each connection, and return the figures when all are answered.

    The bodies are taken lazily, so an endless run is an iterator that stops when its time is up. A connection that
    the server closes is opened again for the next body; the body it carried counts as dropped and is not sent again.

    Raises OSError when the server cannot be reached and ValueError when an answer carries no Content-Length.
    """
    loop = asyncio.get_running_loop()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n{lines}Content-Length: "
    figures = Figures()
    source = iter(bodies)
    began = loop.time()
    await asyncio.gather(*(_one_connection(host, port, head.encode(), source, figures) for _ in range(connections)))
    figures.seconds = loop.time() - began
    return figures


async def _one_connection(host: str, port: int, head: bytes, source: Iterator[bytes], figures: Figures) -> None:
    loop = asyncio.get_running_loop()
    for body in source:
        ended: asyncio.Future[None] = loop.create_future()
        first = _Connection(head, body, source, figures, ended, loop.time)
        # mypy cannot infer a lambda with a default, and without the default it would see the next body's.
        await loop.create_connection(lambda made=first: made, host, port)  # type: ignore[misc]
        await ended


class _Connection(asyncio.Protocol):
    """Sends a body, reads its answer, takes the next body, until there are none or the server closes."""

    def __init__(
        self,
        head: bytes,
        body: bytes,
        source: Iterator[bytes],
        figures: Figures,
        ended: "asyncio.Future[None]",
        clock: Callable[[], float],
    ) -> None:
        self._head, self._source, self._figures, self._ended, self._clock = head, source, figures, ended, clock
        self._body: bytes | None = body
        self._transport: asyncio.Transport
        self._read = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is no subclass of asyncio's
        self._send()

    def _send(self) -> None:
        body = self._body
        if body is None:
            self._transport.close()
            return
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        self._sent_at = self._clock()

    def data_received(self, data: bytes) -> None:
        try:
            self._take(self._read + data if self._read else data)
        # asyncio would only log it: whatever it is, drive() raises it.
        except Exception as failed:
            self._ended.set_exception(failed)
            self._transport.abort()

    def _take(self, read: bytes) -> None:
        self._read = read
        head_end = read.find(HEAD_END)
        if head_end < 0 or len(read) < head_end + len(HEAD_END) + _content_length(read[:head_end]):
            return
        self._read = b""
        self._figures.latencies.append(self._clock() - self._sent_at)
        self._figures.statuses[int(read[9:12])] += 1
        self._figures.bytes_read += len(read)
        self._body = next(self._source, None)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._body is not None:
            self._figures.dropped += 1
        if not self._ended.done():
            self._ended.set_result(None)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(LENGTH)
    if at < 0:
        raise ValueError(f"an answer has no Content-Length: {head[:80]!r}")
    end = lowered.find(b"\r", at)
    return int(lowered[at + len(LENGTH) : end if end >= 0 else None])
