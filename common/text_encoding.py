"""The encoding of a text file, and the refusal of a file that is no text.

A byte order mark says it. Without one, a file that is UTF-8 from end to end is UTF-8: text in another encoding hardly
ever is by chance. What is left is UTF-16 without a mark, or an encoding from before Unicode: see legacy_encoding.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from common import legacy_encoding
from common.errors import InvalidRequest

# UTF-32 stands before UTF-16, whose little-endian mark begins its own.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_SIGNATURES = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
)

_HEAD_BYTES = 64 * 1024
_CHUNK_BYTES = 2**20

# How much is looked at to tell one legacy encoding from another: lines with bytes beyond ASCII, and so much of each.
_SAMPLE_BYTES = 32 * 1024
_SAMPLE_LINE_BYTES = 4096

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")

# Text has none of these; a damaged text has a few. A binary file has them all over.
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.01
_MIN_CONTROL_SHARE_OF_UTF16 = 0.2

# What text read with its two bytes swapped is full of (a line end becomes U+0A00, which is no character), and controls.
_NOT_IN_TEXT = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\u0a00\u0d00\ufffe\uffff]")


def detect(file: BinaryIO) -> str:
    """The name of the codec that reads `file`, which must be seekable. Raises InvalidRequest for what is no text.

    A file that is nearly all UTF-8 is UTF-8, damaged: its reader meets the damage and can name the line.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head and (utf16 := _utf16_without_mark(head)):
        return utf16
    if _is_utf8(file):
        return "utf-8"
    if _control_share(head) > _MAX_CONTROL_SHARE:
        raise _no_text(head)
    sample = _sample(file)
    if sum(_is_start_of("utf-8", line) for line in sample) * 2 >= len(sample):
        return "utf-8"
    legacy = legacy_encoding.detect(sample)
    if legacy is None:
        raise _no_text(head)
    return legacy


def _utf16_without_mark(head: bytes) -> str | None:
    # Read as UTF-8, half of it is control characters, or in some scripts it is none at all.
    if _control_share(head) < _MIN_CONTROL_SHARE_OF_UTF16 and _is_start_of("utf-8", head):
        return None
    for encoding in ("utf-16-le", "utf-16-be"):
        with suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(encoding)().decode(head)
            if re.search("[\r\n,;\t]", text) and not _NOT_IN_TEXT.search(text):
                return encoding
    return None


def _is_utf8(file: BinaryIO) -> bool:
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    within_character = False
    try:
        while chunk := file.read(_CHUNK_BYTES):
            # isascii reads eight bytes at a time and makes nothing.
            if within_character or not chunk.isascii():
                decoder.decode(chunk)
                within_character = bool(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _sample(file: BinaryIO) -> list[bytes]:
    sample: list[bytes] = []
    room = _SAMPLE_BYTES
    for line in _lines_beyond_ascii(file):
        sample.append(line)
        room -= len(line)
        if room <= 0:
            break
    return sample


def _lines_beyond_ascii(file: BinaryIO) -> Iterator[bytes]:
    """The lines with bytes beyond ASCII, wherever they stand, each from near the first such byte up to a length."""
    file.seek(0)
    unfinished = b""
    while len(unfinished) < _CHUNK_BYTES and (chunk := file.read(_HEAD_BYTES)):
        if chunk.isascii() and unfinished.isascii():
            unfinished = b""
            continue
        lines = (unfinished + chunk).splitlines(keepends=True)
        unfinished = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        yield from (_shortened(line) for line in lines if not line.isascii())
    if not unfinished.isascii():
        yield _shortened(unfinished)


def _shortened(line: bytes) -> bytes:
    # A character of any of these encodings that begins with an ASCII byte is that byte alone: the start is a whole one.
    beyond = _BEYOND_ASCII.search(line)
    start = max(0, beyond.start() - _SAMPLE_LINE_BYTES // 4) if beyond else 0
    piece = line[start : start + _SAMPLE_LINE_BYTES]
    if len(piece) == len(line) - start:
        return piece
    # None of these is the second half of a character. A line without them may end here within a character.
    end = max(piece.rfind(separator) for separator in (b" ", b",", b";", b"\t")) + 1
    return piece if piece[:end].isascii() else piece[:end]


def _is_start_of(encoding: str, data: bytes) -> bool:
    """Whether `data` is text in this encoding, but for a character cut off at its end."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def _control_share(head: bytes) -> float:
    return len(_CONTROL_BYTES.findall(head)) / max(1, len(head))


def _no_text(head: bytes) -> InvalidRequest:
    first = _CONTROL_BYTES.search(head) or _BEYOND_ASCII.search(head)
    line = head.count(b"\n", 0, first.start() if first else 0) + 1
    kind = next((f"It looks like {name}. " for signature, name in _SIGNATURES if head.startswith(signature)), "")
    return InvalidRequest(
        f"the file is no text: line {line} holds bytes that no text has. {kind}"
        "Export or save it as CSV in UTF-8 (in Excel: Save As, CSV UTF-8) and upload that.",
        param="file",
        code="not_text",
    )
