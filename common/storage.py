"""The door to object storage: file content by key, in a folder or an S3 bucket, chosen by STORAGE_URL."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import BinaryIO, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from common.errors import Unavailable
from common.settings import settings
from common.shared_thread import in_native_thread

READ_BYTES = 1 << 20
# S3 takes parts from 5 MiB on, and 10,000 of them. Two are on their way at once for each upload, a third is being read.
PART_BYTES = 5 << 20
PARTS_AT_ONCE = 2
# A request waits for as long while S3 does not answer, or answers with its own faults.
RETRY_SECONDS = 10
SLOW_WRITE_SECONDS = 0.02

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _store() -> ObjectStore:
    url = settings().storage_url
    if url.startswith("file:"):
        return from_url(url, mkdir=True)
    return from_url(url, retry_config={"retry_timeout": timedelta(seconds=RETRY_SECONDS)})


@lru_cache(maxsize=1)
def _folder() -> Path | None:
    """The folder that content is kept in; None for a bucket."""
    url = urlsplit(settings().storage_url)
    return Path(unquote(url.path)) if url.scheme == "file" else None


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Turns what the storage fails at into Unavailable; what is not there stays a FileNotFoundError."""
    try:
        yield
    except BaseError as error:
        log.error("the storage does not answer, or refuses us", exc_info=error)
        raise Unavailable("The file storage does not answer: send the request again.", code="storage_away") from None


def spool() -> BinaryIO:
    """A file for content on its way to `put`. It has no name, so that nothing of it is left when it is closed, however
    that happens; and it is where `put` has only to give it one, on a file system that can do that."""
    folder = _folder()
    if folder is not None and hasattr(os, "O_TMPFILE"):
        folder.mkdir(parents=True, exist_ok=True)
        # Network file systems, for one, have no files without a name.
        with contextlib.suppress(OSError):
            return _spooled(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666))
    with TemporaryFile(dir=settings().upload_folder) as file:
        return _spooled(os.dup(file.fileno()))


def _spooled(file: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedRandom(_Spool(file, "w+b")))


class _Spool(io.FileIO):
    """A file that is written in native threads once the disk does not keep up: while it does, a piece takes
    microseconds, and the way to another thread and back as long as all else that an upload needs."""

    _keeps_up = True

    # What calls it gives a memoryview; the type that it would have to take here has a name from Python 3.12 on.
    def write(self, data: memoryview) -> int:  # type: ignore[override]
        if not self._keeps_up:
            return in_native_thread(super().write, data)
        began = monotonic()
        written = super().write(data)
        self._keeps_up = monotonic() - began < SLOW_WRITE_SECONDS
        return written


def put(key: str, content: BinaryIO) -> None:
    """Stores the whole content, or nothing. Raises Unavailable."""
    content.seek(0)
    if _give_name(content, key):
        return
    first = content.read(PART_BYTES)
    with _answering():
        if len(first) < PART_BYTES:
            in_native_thread(obstore.put, _store(), key, first)
        else:
            # Not the file itself: obstore would take three times the CPU to read it.
            parts = chain([first], iter(lambda: content.read(PART_BYTES), b""))
            in_native_thread(obstore.put, _store(), key, parts, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)


def _give_name(content: BinaryIO, key: str) -> bool:
    """Whether the content could be stored by naming it: a new key for a file without a name in the storage's folder."""
    folder = _folder()
    if folder is None:
        return False
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if os.fstat(content.fileno()).st_nlink:
            # A file of somebody else, who may write to it again.
            return False
        # With any src_dir_fd, which an absolute path does not use, Python asks for the file behind /proc's link.
        os.link(f"/proc/self/fd/{content.fileno()}", path, src_dir_fd=content.fileno(), follow_symlinks=True)
    except OSError:
        return False
    return True


def open_content(key: str) -> BinaryIO:
    """The content as a seekable binary file. Raises FileNotFoundError, and Unavailable, also when it is read."""
    return cast(BinaryIO, io.BufferedReader(_Content(key), READ_BYTES))


def delete(key: str) -> None:
    """Deletes the content; deleting it twice is fine. Raises Unavailable."""
    with contextlib.suppress(FileNotFoundError), _answering():
        in_native_thread(obstore.delete, _store(), key)


class _Content(io.RawIOBase):
    """Gives an object in storage the interface of a file, read in ranges as they are asked for."""

    def __init__(self, key: str) -> None:
        self._key = key
        with _answering():
            self._size = in_native_thread(obstore.head, _store(), key)["size"]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readall(self) -> bytes:
        # Python's own would ask for 8 KiB at a time.
        buffer = bytearray(max(0, self._size - self._position))
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    # What calls it gives a memoryview; the type that it would have to take here has a name from Python 3.12 on.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        with _answering():
            content = in_native_thread(obstore.get_range, _store(), self._key, start=self._position, length=length)
        buffer[:length] = memoryview(content)
        self._position += length
        return length
