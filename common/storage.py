"""The door to object storage: file content by key, in a folder or an S3 bucket, chosen by STORAGE_URL."""

import io
from functools import lru_cache
from typing import BinaryIO, cast

import obstore
from obstore.store import ObjectStore, from_url

from common.settings import settings

READ_BYTES = 1 << 20


@lru_cache(maxsize=1)
def _store() -> ObjectStore:
    url = settings().storage_url
    return from_url(url, mkdir=True) if url.startswith("file:") else from_url(url)


def put(key: str, content: BinaryIO) -> None:
    """Stores the whole content, or nothing."""
    obstore.put(_store(), key, content)


def open_content(key: str) -> BinaryIO:
    """The content as a seekable binary file. Raises FileNotFoundError."""
    return cast(BinaryIO, io.BufferedReader(_Content(key), READ_BYTES))


def delete(key: str) -> None:
    """Deletes the content; deleting it twice is fine."""
    try:
        obstore.delete(_store(), key)
    except FileNotFoundError:
        return


class _Content(io.RawIOBase):
    """Gives an object in storage the interface of a file, read in ranges as they are asked for."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._size = obstore.head(_store(), key)["size"]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        content = obstore.get_range(_store(), self._key, start=self._position, length=length)
        buffer[:length] = memoryview(content)
        self._position += length
        return length
