"""The door to storage: the same promises of a folder and of a bucket in S3."""

import io
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import pytest

from common import storage
from common.errors import Unavailable
from tests.conftest import MIB
from tests.process_settings import process_settings
from tests.s3 import S3
from tests.waiting import Stopwatch

SETTINGS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    "WEB_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    "REDIS_URL": "redis://127.0.0.1:9",
    "SECRET_KEY": "k" * 32,
    "PROVIDER_API_KEY": "none",
}


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A process whose storage is a folder, or a prefix in a bucket."""
    if request.param == "folder":
        storage_env = {"STORAGE_URL": (tmp_path / "not there yet").as_uri()}
    else:
        storage_env = request.getfixturevalue("s3").env
    with process_settings(SETTINGS | storage_env | {"UPLOAD_FOLDER": str(tmp_path)}):
        yield request.param


@pytest.fixture
def key() -> str:
    return f"inputs/{uuid4().hex}"


def spooled(content: bytes) -> BinaryIO:
    file = storage.spool()
    file.write(content)
    return file


def stored(key: str) -> bytes:
    with storage.open_content(key) as file:
        return file.read()


SIZES = [0, 1, storage.PART_BYTES - 1, storage.PART_BYTES, storage.PART_BYTES + 1, 3 * storage.PART_BYTES + 17]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_is_read_back_whole_however_it_comes(place: str, key: str, size: int) -> None:
    content = random.Random(size).randbytes(size)
    with spooled(content) as file:
        storage.put(key, file)
    assert stored(key) == content
    storage.put(f"{key}-2", io.BytesIO(content))
    assert stored(f"{key}-2") == content


def test_content_is_read_at_any_place_like_a_file(place: str, key: str) -> None:
    content = random.Random(1).randbytes(3 * MIB + 5)
    storage.put(key, io.BytesIO(content))
    with storage.open_content(key) as file, io.BytesIO(content) as plain:
        assert file.seekable()
        for offset, whence, length in [
            (0, os.SEEK_SET, 10),
            (2 * MIB, os.SEEK_SET, 100),
            (-50, os.SEEK_CUR, 2 * MIB),
            (-7, os.SEEK_END, 100),
            (0, os.SEEK_END, 1),
            (5, os.SEEK_END, 1),
            (MIB - 1, os.SEEK_SET, 2),
            (0, os.SEEK_SET, -1),
        ]:
            assert file.seek(offset, whence) == plain.seek(offset, whence)
            assert file.read(length) == plain.read(length)
            assert file.tell() == plain.tell()


def test_lines_are_read_like_a_files(place: str, key: str) -> None:
    lines = [b"%d,%s\n" % (number, b"x" * (number % 1000)) for number in range(5_000)]
    storage.put(key, io.BytesIO(b"".join(lines)))
    with storage.open_content(key) as file:
        assert list(file) == lines


def test_what_is_not_there_is_a_file_not_found(place: str, key: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open_content(key)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(place: str, key: str) -> None:
    with spooled(b"text") as file:
        storage.put(key, file)
    storage.delete(key)
    with pytest.raises(FileNotFoundError):
        storage.open_content(key)
    storage.delete(key)


@pytest.mark.parametrize("size", [5, 2 * storage.PART_BYTES])
def test_a_second_put_takes_the_place_of_the_first(place: str, key: str, size: int) -> None:
    with spooled(b"the first, and longer") as first, spooled(b"y" * size) as second:
        storage.put(key, first)
        storage.put(key, second)
    assert stored(key) == b"y" * size


class Broken(io.BytesIO):
    """A file that cannot be read to its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 2 * storage.PART_BYTES:
            raise OSError("the disk is broken")
        return super().read(size)


def test_a_put_that_fails_in_the_middle_leaves_nothing(
    place: str, key: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(OSError, match="broken"):
        storage.put(key, Broken(bytes(4 * storage.PART_BYTES)))
    with pytest.raises(FileNotFoundError):
        storage.open_content(key)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    if place == "s3":
        s3: S3 = request.getfixturevalue("s3")
        assert s3.unfinished() == []
        assert not any(found.endswith(key) for found in s3.stored())


@pytest.mark.parametrize(("slow", "by_threads"), [(0.0, [b"c" * 9_000, b"d" * 9_000]), (60.0, [])])
def test_a_file_is_written_in_native_threads_once_the_disk_was_slow(
    place: str, monkeypatch: pytest.MonkeyPatch, slow: float, by_threads: list[bytes]
) -> None:
    done: list[bytes] = []

    def in_native_thread(write: Callable[[memoryview], int], data: memoryview) -> int:
        done.append(bytes(data))
        return write(data)

    monkeypatch.setattr(storage, "SLOW_WRITE_SECONDS", slow)
    monkeypatch.setattr(storage, "in_native_thread", in_native_thread)
    with spooled(b"b" * 9_000) as file:
        for letter in (b"c", b"d"):
            file.write(letter * 9_000)
        file.seek(0)
        assert file.read() == b"b" * 9_000 + b"c" * 9_000 + b"d" * 9_000
    assert done == by_threads


def test_a_spooled_file_that_is_not_put_leaves_nothing(place: str, tmp_path: Path) -> None:
    with spooled(bytes(MIB)):
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_key_stands_under_the_prefix_of_the_storage_url(s3: S3, key: str) -> None:
    with process_settings(SETTINGS | s3.env):
        storage.put(key, io.BytesIO(b"text"))
    assert f"a/prefix/{key}" in s3.stored()


def test_an_s3_that_does_not_answer_is_given_up_soon(s3: S3, key: str, tmp_path: Path) -> None:
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "UPLOAD_FOLDER": str(tmp_path)}
    trying = Stopwatch()
    with process_settings(SETTINGS | s3.env | nowhere), spooled(b"text") as file, pytest.raises(Unavailable):
        storage.put(key, file)
    assert trying.seconds < 2 * storage.RETRY_SECONDS


def test_a_file_of_somebody_else_is_copied(place: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_bytes(b"text")
    with path.open("r+b") as file:
        storage.put(key, file)
        file.seek(0)
        file.write(b"TEXT")
    assert stored(key) == b"text"


PUT_AND_TELL_GROWTH = """
import io, resource, sys
from common import storage

storage.put("inputs/first", io.BytesIO(bytes(storage.PART_BYTES)))
file = storage.spool()
for _ in range(100):
    file.write(bytes(2**20))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
storage.put("inputs/second", file)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_putting_100_mib_takes_memory_for_a_few_parts(place: str) -> None:
    putting = subprocess.run([sys.executable, "-c", PUT_AND_TELL_GROWTH], capture_output=True, text=True, check=True)
    assert int(putting.stdout) < 30
