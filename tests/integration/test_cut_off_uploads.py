"""A body of which only a part arrives: nothing of it is left, and the server goes on."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import psycopg
import pytest

from local.stack import Stack
from tests.conftest import MIB, STALL_SECONDS, NewCustomer
from tests.customer import Customer, answer
from tests.multipart import BOUNDARY, MULTIPART, form
from tests.waiting import Stopwatch, wait_for

ROW = b"some text,and some more\n"
FORMS = {
    "/v1/batches": form(b"text,more\n" + ROW * (3 * MIB // len(ROW)), model="sim", prompt="About {{text}}"),
    "/v1/files": form(b'{"custom_id": "a"}\n' * (3 * MIB // 19), purpose="batch"),
}
Send = Callable[[socket.socket, str, str, bytes, int], None]


def head(path: str, key: str, framing: str, content_type: str = MULTIPART) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {key}", f"Content-Type: {content_type}"]
    return "\r\n".join([*lines, framing, "", ""]).encode()


def by_length(connection: socket.socket, path: str, key: str, sent: bytes, missing: int) -> None:
    connection.sendall(head(path, key, f"Content-Length: {len(sent) + missing}") + sent)


def in_chunks(connection: socket.socket, path: str, key: str, sent: bytes, missing: int) -> None:
    """Whole chunks, and the last one cut off where it says so."""
    connection.sendall(head(path, key, "Transfer-Encoding: chunked"))
    for at in range(0, len(sent), 100_000):
        chunk = sent[at : at + 100_000]
        connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    if missing > 1:
        connection.sendall(b"ffff\r\n" + b"x" * 10)


class Traces:
    """All that an upload could leave behind: rows, stored content, files with and without a name."""

    def __init__(self, stack: Stack, database: psycopg.Connection) -> None:
        self._database = database
        self._web = psutil.Process(stack.processes["web"].pid)
        self._folders = [Path(unquote(urlsplit(stack.env["STORAGE_URL"]).path)), Path(stack.env["UPLOAD_FOLDER"])]

    def look(self) -> tuple[list[object], list[Path], list[str]]:
        rows = [self._database.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("files", "batches")]
        files = sorted(path for folder in self._folders for path in folder.rglob("*") if path.is_file())
        return [*rows], files, sorted(self._unnamed())

    def _unnamed(self) -> Iterator[str]:
        for process in self._web.children():
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    target = str(link.readlink())
                    if any(target.startswith(str(folder)) for folder in self._folders):
                        yield target


@pytest.fixture
def traces(stack: Stack, stack_database: psycopg.Connection) -> Traces:
    return Traces(stack, stack_database)


def connect(stack: Stack) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stack.port), timeout=30)


def received(connection: socket.socket) -> bytes:
    """All that the server answers until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("send", [by_length, in_chunks])
@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("end", [1_000, MIB, 2 * MIB, -len(BOUNDARY) - 10, -1])
def test_an_upload_that_is_cut_off_leaves_nothing_and_the_server_goes_on(
    stack: Stack, customer: Customer, traces: Traces, path: str, send: Send, end: int
) -> None:
    before = traces.look()
    content = FORMS[path]
    with connect(stack) as connection:
        send(connection, path, customer.key, content[:end], len(content[end:]))
        connection.shutdown(socket.SHUT_WR)
        assert received(connection).startswith(b"HTTP/1.1 400 ")
    wait_for(traces.look, lambda now: now == before)
    assert answer(customer.get("/healthz")) == {"status": "ok"}


@pytest.mark.parametrize("send", [by_length, in_chunks])
@pytest.mark.parametrize("path", FORMS)
def test_an_upload_whose_connection_is_reset_leaves_nothing(
    stack: Stack, customer: Customer, traces: Traces, path: str, send: Send
) -> None:
    before = traces.look()
    content = FORMS[path]
    with connect(stack) as connection:
        send(connection, path, customer.key, content[: 2 * MIB], len(content[2 * MIB :]))
        # It is seen while it comes, so that its absence means something.
        wait_for(lambda: traces.look()[2], lambda unnamed: len(unnamed) > len(before[2]))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(traces.look, lambda now: now == before)
    assert answer(customer.get("/healthz")) == {"status": "ok"}


def test_an_upload_that_stands_still_is_given_up(stack: Stack, customer: Customer, traces: Traces) -> None:
    before = traces.look()
    content = FORMS["/v1/files"]
    with connect(stack) as connection:
        by_length(connection, "/v1/files", customer.key, content[:MIB], len(content[MIB:]))
        waiting = Stopwatch()
        assert received(connection).startswith(b"HTTP/1.1 400 ")
        assert waiting.seconds < 3 * STALL_SECONDS
    wait_for(traces.look, lambda now: now == before)


def test_chunks_that_are_damaged_are_refused(stack: Stack, customer: Customer, traces: Traces) -> None:
    before = traces.look()
    content = FORMS["/v1/files"]
    with connect(stack) as connection:
        connection.sendall(head("/v1/files", customer.key, "Transfer-Encoding: chunked"))
        connection.sendall(b"%x\r\n%s\r\n" % (MIB, content[:MIB]) + b"no length\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400 ")
    wait_for(traces.look, lambda now: now == before)


def test_a_body_that_ends_before_its_length_is_no_shorter_body(stack: Stack, new_customer: NewCustomer) -> None:
    customer = new_customer()
    job = b'{"model": "sim", "prompt": "Hi"}'
    with connect(stack) as connection:
        framing = f"Content-Length: {len(job) + 10}"
        connection.sendall(head("/v1/jobs", customer.key, framing, "application/json") + job)
        connection.shutdown(socket.SHUT_WR)
        assert received(connection).startswith(b"HTTP/1.1 400 ")
    assert answer(customer.get("/v1/jobs"))["data"] == []
