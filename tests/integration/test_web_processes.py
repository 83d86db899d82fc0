"""What requests of one web process, which share its only thread, owe each other: real gunicorn, real connections."""

import re
import select
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse, RemoteDisconnected
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from common import accounts, keys, password_hashes
from tests.conftest import MIB
from tests.customer import Customer, answer
from tests.multipart import MULTIPART, form
from tests.waiting import Stopwatch, wait_for
from tests.web_process import WebProcess, web_process

AT_ONCE = 2
STALL_SECONDS = 1
ROWS = 200_000
CSV = form(b"text\n" + b"row\n" * ROWS, model="sim", prompt="About {{text}}")


@pytest.fixture
def key(settings: dict[str, str]) -> str:
    return keys.create(accounts.create("Ann", "pro").id, "test")


@pytest.fixture
def process(settings: dict[str, str]) -> Iterator[WebProcess]:
    """One web process, which works on two requests at once."""
    asked = {"WEB_REQUESTS_AT_ONCE": str(AT_ONCE), "STALL_SECONDS": str(STALL_SECONDS)}
    with web_process(settings | asked) as process:
        yield process


def connect(process: WebProcess) -> socket.socket:
    url = urlsplit(process.url)
    return socket.create_connection((url.hostname, url.port), timeout=30)


def head(method: str, path: str, key: str = "", length: int = 0) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {key}", f"Content-Type: {MULTIPART}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def status(connection: socket.socket) -> int | None:
    """Of the next answer, once all of it is here; None where the connection ends instead."""
    response = HTTPResponse(connection)
    try:
        response.begin()
    except RemoteDisconnected:
        return None
    response.read()
    return response.status


def has_answer(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], seconds)[0])


def test_while_a_long_file_is_estimated_other_requests_are_answered(settings: dict[str, str], key: str) -> None:
    with web_process(settings) as process, Customer(process.url, key) as customer:
        files = {"file": ("rows.csv", b"text\n" + b"row\n" * ROWS, "text/csv")}
        asked_for = {"model": "sim", "prompt": "About {{text}}"}
        done: list[httpx2.Response] = []
        url, headers = f"{process.url}/v1/batches/estimate", {"Authorization": f"Bearer {key}"}

        def estimate() -> None:
            done.append(httpx2.post(url, data=asked_for, files=files, headers=headers, timeout=90, trust_env=False))

        other = threading.Thread(target=estimate)
        other.start()
        slowest, asked = 0.0, 0
        while other.is_alive():
            asking = Stopwatch()
            assert customer.get("/v1/models").status_code == 200
            slowest, asked = max(slowest, asking.seconds), asked + 1
    assert answer(done[0])["rows"] == ROWS
    assert asked > 3
    assert slowest < 1.0


def test_what_fails_in_a_native_thread_is_told_to_who_asked_and_to_no_log(
    settings: dict[str, str], tmp_path: Path
) -> None:
    sent = {"email": "ann@example.com", "password": "the password that was typed"}
    with (tmp_path / "log").open("wb") as log, web_process(settings, log=log) as process:
        assert httpx2.post(f"{process.url}/auth/log-in", json=sent, timeout=90, trust_env=False).status_code == 401
        logged = (tmp_path / "log").read_text()
    assert "/auth/log-in" in logged
    assert sent["password"] not in logged
    assert "Traceback" not in logged


def test_while_passwords_are_hashed_others_may_come_and_too_many_are_told_so(settings: dict[str, str]) -> None:
    many = password_hashes.HASHES_AT_ONCE + password_hashes.MAX_WAITING + 6
    with web_process(settings) as process, ThreadPoolExecutor(many) as threads:

        def log_in(number: int) -> int:
            sent = {"email": f"ann-{number}@example.com", "password": "a password of nobody"}
            return httpx2.post(f"{process.url}/auth/log-in", json=sent, timeout=90, trust_env=False).status_code

        assert set(threads.map(log_in, range(many))) == {401, 503}


def test_a_body_that_nobody_reads_ends_its_connection(process: WebProcess) -> None:
    total = 64 * MIB
    with connect(process) as connection:
        connection.sendall(head("GET", "/healthz", length=total))
        # Either of them, as the operating system has it.
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(bytes(total))


def test_a_body_that_nobody_reads_but_is_short_leaves_the_connection_to_the_next_request(process: WebProcess) -> None:
    with connect(process) as connection:
        for _ in range(2):
            connection.sendall(head("GET", "/healthz", length=1_000) + b"x" * 1_000)
            assert status(connection) == 200


def test_a_connection_may_pause_for_longer_between_requests_than_within_one(process: WebProcess) -> None:
    with connect(process) as connection:
        for seconds in (STALL_SECONDS * 2.0, 0.0):
            connection.sendall(head("GET", "/healthz"))
            assert status(connection) == 200
            assert not has_answer(connection, seconds)


def test_so_many_requests_are_worked_on_at_once_and_the_next_waits_for_its_turn(
    settings: dict[str, str], key: str
) -> None:
    with ExitStack() as opened:
        process = opened.enter_context(web_process(settings | {"WEB_REQUESTS_AT_ONCE": str(AT_ONCE)}))
        uploads = [opened.enter_context(connect(process)) for _ in range(AT_ONCE)]
        other = opened.enter_context(connect(process))
        for upload in uploads:
            upload.sendall(head("POST", "/v1/batches", key, len(CSV)) + CSV[:1_000])
        # The last of them may come to its place a little later than this request would.
        wait_for(lambda: _answered_again(process), lambda answered: not answered)
        other.sendall(head("GET", "/healthz"))
        assert not has_answer(other, 0.5)
        uploads[0].sendall(CSV[1_000:])
        assert status(uploads[0]) == 202
        assert status(other) == 200


def _answered_again(process: WebProcess) -> bool:
    with connect(process) as connection:
        connection.sendall(head("GET", "/healthz"))
        return has_answer(connection, 0.5)


def test_a_process_that_is_told_to_stop_answers_what_it_has_begun_and_then_ends(
    settings: dict[str, str], key: str, tmp_path: Path
) -> None:
    with ExitStack() as opened:
        log = opened.enter_context((tmp_path / "log").open("wb"))
        process = opened.enter_context(web_process(settings, log=log))
        idle, upload = opened.enter_context(connect(process)), opened.enter_context(connect(process))
        idle.sendall(head("GET", "/healthz"))
        assert status(idle) == 200
        upload.sendall(head("POST", "/v1/batches", key, len(CSV)) + CSV[:1_000])
        # Who came later has its answer, so that the upload has begun.
        assert httpx2.get(f"{process.url}/healthz", trust_env=False).status_code == 200
        process.send(signal.SIGTERM)
        # The connection that nobody uses ends first.
        assert status(idle) is None
        upload.sendall(CSV[1_000:])
        assert status(upload) == 202
        assert status(upload) is None
        assert process.ended(20) == 0
    logged = (tmp_path / "log").read_text()
    assert "Worker exiting" in logged
    # Of an error, or of a line that could not be written.
    assert "Traceback" not in logged


def test_a_process_that_loads_the_app_when_it_is_told_to_stop_ends_and_leaves_the_others_their_requests(
    settings: dict[str, str], key: str
) -> None:
    with web_process(settings, processes=2) as process, connect(process) as upload:
        upload.sendall(head("POST", "/v1/batches", key, len(CSV)) + CSV[:1_000])
        leader = psutil.Process(process.pid)
        workers = leader.children()
        # The one that has the upload open as a file.
        (busy,) = wait_for(lambda: [worker for worker in workers if _has_connection(worker)], bool)
        (other,) = [worker for worker in workers if worker != busy]
        other.kill()
        # Before that it would not hear of it.
        wait_for(lambda: [child for child in leader.children() if child not in workers and _hears(child)], bool)
        process.send(signal.SIGTERM)
        upload.sendall(CSV[1_000:])
        assert status(upload) == 202
        assert process.ended(20) == 0


def _has_connection(worker: psutil.Process) -> bool:
    return any(found.status == psutil.CONN_ESTABLISHED and found.raddr for found in worker.net_connections("tcp"))


def _hears(worker: psutil.Process) -> bool:
    """Whether it has signal handlers of its own: of SIGCHLD it has none, unlike the leader that it was forked of."""
    (caught,) = re.findall(r"^SigCgt:\t(\w+)$", Path(f"/proc/{worker.pid}/status").read_text(), re.MULTILINE)
    return not int(caught, 16) >> (signal.SIGCHLD - 1) & 1
