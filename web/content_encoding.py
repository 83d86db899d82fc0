"""Bodies that were packed for the way: `Content-Encoding: gzip`, unpacked as they are read."""

import zlib
from collections.abc import Callable
from typing import Protocol

from common import shared_thread
from common.errors import InvalidRequest, Unsupported

# zlib's way to say: with gzip's header and trailer.
GZIP_WINDOW = 16 + zlib.MAX_WBITS
PACKED_BYTES = 64 * 1024


class Readable(Protocol):
    """What WSGI calls an input stream, as far as it is read here."""

    def read(self, size: int, /) -> bytes: ...


def decoder(encoding: str | None) -> Callable[[Readable], Readable] | None:
    """What unpacks bodies of this Content-Encoding; None for a plain body. Raises Unsupported."""
    match (encoding or "").strip(" \t").lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Gunzip
        case _:
            raise Unsupported(
                f"Content-Encoding {encoding!r} is not read here: send gzip, or the body as it is.",
                code="unsupported_content_encoding",
            )


class Gunzip:
    """A stream of gzip members, one behind the other, as what they hold.

    No more is unpacked than is asked for, so that a few bytes which unpack to terabytes cost as little as any body that
    is over its limit.
    """

    def __init__(self, packed: Readable) -> None:
        self._packed = packed
        self._member = zlib.decompressobj(GZIP_WINDOW)
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, and none at the end. Raises InvalidRequest for what is not whole gzip."""
        plain = b""
        while size > 0 and not plain:
            # What is little on the way may be much here, or be many members with nothing in them.
            shared_thread.let_others_go_on()
            self._ahead = self._ahead or self._packed.read(PACKED_BYTES)
            if self._member.eof:
                if not self._ahead:
                    break
                self._member = zlib.decompressobj(GZIP_WINDOW)
            plain = self._unpack(size)
        return plain

    def _unpack(self, size: int) -> bytes:
        try:
            plain = self._member.decompress(self._ahead, size)
        except zlib.error:
            raise _invalid("is damaged, or has something else behind it") from None
        # Without more to come, zlib may still have held something back when it had given all that was asked for.
        if not self._ahead and not plain and not self._member.eof:
            raise _invalid("ends in the middle")
        self._ahead = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return plain


def _invalid(how: str) -> InvalidRequest:
    return InvalidRequest(f"The body is not whole gzip: it {how}.", code="invalid_content_encoding")
