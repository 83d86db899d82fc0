"""The results of a batch as CSV: the customer's own columns in their order, then ours."""

from collections.abc import Iterable, Iterator, Sequence

from common.csv_text import joined, quoted_if_needed

# Ours. Where the customer has a column of that name already, ours gets the prefix.
RESULT_COLUMNS = ("output", "status", "error", "prompt_tokens", "completion_tokens", "cost")
COLLISION_PREFIX = "batchyard_"

# A chunk is encoded and sent when this many characters are written.
CHUNK_CHARACTERS = 64 * 1024


def header(columns: Sequence[str]) -> list[str]:
    """The customer's columns as they stand, then ours, each under a name that the customer's columns do not have."""
    taken = set(columns)
    ours = []
    for name in RESULT_COLUMNS:
        while name in taken:
            name = COLLISION_PREFIX + name
        ours.append(name)
    return [*columns, *ours]


def write(columns: Sequence[str], rows: Iterable[tuple[str, str | None, str]]) -> Iterator[bytes]:
    """The file in chunks of about CHUNK_CHARACTERS: UTF-8 without a mark, comma, CRLF (RFC 4180).

    A row is the customer's own cells as CSV, the output as text, and the other result columns as CSV. Half a surrogate
    pair, which JSON can carry and UTF-8 cannot, comes out as "?".
    """
    lines = [joined(header(columns)) + "\r\n"]
    characters = len(lines[0])
    for own, output, others in rows:
        line = f"{own},{quoted_if_needed(output) if output else ''},{others}\r\n"
        lines.append(line)
        characters += len(line)
        if characters >= CHUNK_CHARACTERS:
            yield "".join(lines).encode(errors="replace")
            lines.clear()
            characters = 0
    if lines:
        yield "".join(lines).encode(errors="replace")
