"""The physical lines of a text file, decoded in blocks, so that a file of any size takes the memory of one block.

A line ends with "\\n", "\\r\\n" or a lone "\\r", as a text editor counts them, and keeps its ending: a quoted cell may
hold one, and it has to come out as it went in.
"""

import codecs
import io
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import BinaryIO

# Read at once. Small enough that the block, its text and its lines come from the allocator's arenas instead of from
# fresh pages of the system: four times larger is measurably slower.
BLOCK_BYTES = 64 * 1024

# The longest row, in characters: about a million tokens. It bounds the memory that a quote which is never closed takes.
MAX_ROW_CHARACTERS = 4 * 2**20


class CannotReadOn(Exception):
    """Line `line` cannot be read, nor anything behind it. `reason` completes "line 17 ..."."""

    def __init__(self, code: str, line: int, reason: str) -> None:
        super().__init__(f"line {line} {reason}")
        self.code = code
        self.line = line


class Lines:
    """An iterator of the lines of `file` from where it stands, which must be its beginning.

    `holds_nul` turns true when a block with a NUL character is read: a reader need look for one only from then on.
    Raises CannotReadOn, after the last whole line before it, at bytes that are no text in `encoding` and at a line over
    MAX_ROW_CHARACTERS.
    """

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self.holds_nul = False
        self._file = file
        self._encoding = encoding
        self._count = 0

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._blocks())

    def _blocks(self) -> Iterator[list[str]]:
        unfinished = ""
        for text in self._texts():
            self.holds_nul = self.holds_nul or "\0" in text
            lines = _split(text)
            lines[0] = unfinished + lines[0]
            self._check_length(lines[0])
            # A text ends with "\r" only where no "\n" follows it: see _texts.
            unfinished = "" if lines[-1].endswith(("\n", "\r")) else lines.pop()
            self._count += len(lines)
            yield lines
            self._check_length(unfinished)
        if unfinished:
            yield [unfinished]

    def _texts(self) -> Iterator[str]:
        # The newline decoder keeps a "\r" at the end of a block back until it is known whether a "\n" follows.
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(self._encoding)(), translate=False)
        at_end = False
        while not at_end:
            block = self._file.read(BLOCK_BYTES)
            at_end = not block
            before = decoder.getstate()
            try:
                text = decoder.decode(block, final=at_end)
            except UnicodeDecodeError as error:
                decoder.setstate(before)
                yield from _readable_start(decoder, block)
                raise self._undecodable(error) from None
            if text:
                yield text

    def _check_length(self, line: str) -> None:
        if len(line) > MAX_ROW_CHARACTERS:
            raise CannotReadOn(
                "row_too_long",
                self._count + 1,
                f"is over {MAX_ROW_CHARACTERS:,} characters long; shorten it, or end its rows with line ends",
            )

    def _undecodable(self, error: UnicodeDecodeError) -> CannotReadOn:
        shown = " ".join(f"0x{byte:02X}" for byte in error.object[error.start : error.end][:4])
        return CannotReadOn(
            "undecodable_bytes",
            self._count + 1,
            f"holds bytes ({shown}) that are no text in {self._encoding}, the encoding the file appears to have; "
            "save the file as UTF-8 and upload it again",
        )


def _readable_start(decoder: io.IncrementalNewlineDecoder, block: bytes) -> Iterator[str]:
    # Byte by byte, because each codec counts the place of an error in its own way; this happens once a file.
    characters: list[str] = []
    with suppress(UnicodeDecodeError):
        characters.extend(decoder.decode(block[i : i + 1]) for i in range(len(block)))
    holds_back_cr = decoder.getstate()[1] & 1
    if text := "".join(characters) + "\r" * holds_back_cr:
        yield text


def _split(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    if len(lines) == text.count("\n") + (not text.endswith("\n")):
        return lines
    # str.splitlines also cuts at form feeds, U+2028 and others, which are text to us. This way is right but slower.
    return list(io.StringIO(text, newline=""))
