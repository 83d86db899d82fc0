"""The results of a batch as CSV: the customer's own columns in their order, then ours."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from common.money import format_nano_dollars

# Ours. Where the customer has a column of that name already, ours gets the prefix.
RESULT_COLUMNS = ("output", "status", "error", "prompt_tokens", "completion_tokens", "cost")
COLLISION_PREFIX = "batchyard_"

# A chunk is encoded and sent when this many characters are written.
CHUNK_CHARACTERS = 64 * 1024


class ResultCells(NamedTuple):
    """Our columns for one row. None is an empty cell; the cost is in nano-dollars here and written in dollars."""

    output: str | None
    status: str
    error: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: int | None


def header(columns: Sequence[str]) -> list[str]:
    """The customer's columns as they stand, then ours, each under a name that the customer's columns do not have."""
    taken = set(columns)
    ours = []
    for name in RESULT_COLUMNS:
        while name in taken:
            name = COLLISION_PREFIX + name
        ours.append(name)
    return [*columns, *ours]


def write(columns: Sequence[str], rows: Iterable[tuple[Sequence[str], ResultCells]]) -> Iterator[bytes]:
    """The file in chunks of about CHUNK_CHARACTERS: UTF-8 without a mark, comma, CRLF (RFC 4180).

    CRLF also because the csv module quotes a lone "\\r" in a cell only where the line end has one, and unquoted it
    would end the row. Half a surrogate pair, which JSON can carry and UTF-8 cannot, comes out as "?".
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    written = writer.writerow(header(columns))
    for cells, (output, status, error, prompt_tokens, completion_tokens, cost) in rows:
        dollars = None if cost is None else format_nano_dollars(cost)
        written += writer.writerow((*cells, output, status, error, prompt_tokens, completion_tokens, dollars))
        if written >= CHUNK_CHARACTERS:
            yield _taken_from(text)
            written = 0
    if written:
        yield _taken_from(text)


def _taken_from(text: io.StringIO) -> bytes:
    chunk = text.getvalue().encode(errors="replace")
    text.seek(0)
    text.truncate()
    return chunk
