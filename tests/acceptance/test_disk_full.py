"""A disk without room for an upload: it is refused in the API's own words, and comes through once there is room.

A limit on the size of files stands in for the full disk: what the system answers to a write differs by a number.
"""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import psycopg
import pytest

from common import accounts, keys
from tests.customer import Customer, answer, refusal
from tests.databases import one
from tests.web_process import WebProcess, web_process

MIB = 2**20
ROOM_BYTES = MIB
LINE = b'{"custom_id": "a"}\n'


class Crowded(Customer):
    """A customer of a web process whose disk can be full."""

    def __init__(self, process: WebProcess, storage: Path, key: str) -> None:
        super().__init__(process.url, key)
        self._process = process
        self._storage = storage

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """Within it no file grows beyond ROOM_BYTES."""
        self._limit(ROOM_BYTES)
        try:
            yield
        finally:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        leader = psutil.Process(self._process.pid)
        for process in (leader, *leader.children()):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def stored(self) -> list[Path]:
        return [path for path in self._storage.rglob("*") if path.is_file()]


@pytest.fixture
def customer(settings: dict[str, str]) -> Iterator[Crowded]:
    storage = Path(unquote(urlsplit(settings["STORAGE_URL"]).path))
    with ExitStack() as opened:
        key = keys.create(accounts.create("Ann", "pro").id, "test")
        process = opened.enter_context(web_process(settings))
        yield opened.enter_context(Crowded(process, storage, key))


def test_an_upload_that_the_disk_has_no_room_for_is_refused_leaves_nothing_and_comes_through_later(
    customer: Crowded, database: psycopg.Connection
) -> None:
    content = LINE * (3 * MIB // len(LINE))
    with customer.disk_full():
        for response in (customer.send_file(content), customer.upload(b"text\n" + b"a\n" * MIB)):
            error = refusal(response, 503)
            assert (error["type"], error["code"]) == ("unavailable_error", "storage_full")
            assert int(response.headers["retry-after"]) >= 1
        # What needs no disk goes on as ever.
        assert customer.submit({"model": "sim", "prompt": "Hi"})["status"] == "queued"
        assert answer(customer.send_file(LINE))["bytes"] == len(LINE)
    assert [path.stat().st_size for path in customer.stored()] == [len(LINE)]
    assert one(database, "SELECT count(*), sum(bytes) FROM files") == (1, len(LINE))

    assert answer(customer.send_file(content))["bytes"] == len(content)
    assert one(database, "SELECT count(*) FROM files") == (2,)


def test_an_upload_is_refused_also_where_a_limit_lies_between_its_pieces(
    customer: Crowded, database: psycopg.Connection
) -> None:
    """Also a form in which the file is the last thing to be written, and the one that fails only when it is closed."""
    with customer.disk_full():
        for size in (ROOM_BYTES + 1, ROOM_BYTES + 4_096, ROOM_BYTES + 128 * 1024):
            error = refusal(customer.send_file(LINE * (size // len(LINE) + 1)), 503)
            assert error["code"] == "storage_full"
    assert customer.stored() == []
    assert one(database, "SELECT count(*) FROM files") == (0,)
