"""How a customer's CSV file is written: its encoding, its delimiter and its columns, found once when it arrives."""

import csv
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, BinaryIO, Self

from common import text_encoding
from common.csv_lines import MAX_ROW_CHARACTERS, CannotReadOn, Lines
from common.errors import InvalidRequest

# The csv module has one limit for the whole process, 131,072 characters a cell unless told otherwise. Ours is the
# row's.
csv.field_size_limit(MAX_ROW_CHARACTERS)

# In the order in which they win when a header could be read either way.
DELIMITERS = (",", ";", "\t")

# Excel names the delimiter so in a first line of its own, and hides that line from its users.
_SEP_LINE = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """What csv_rows.read needs to know of a file.

    `columns` are the header's names as they stand, in their order; a name may occur twice. `header_lines` counts the
    physical lines down to the end of the header: the rows begin on the next.
    """

    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    header_lines: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON object that from_dict takes back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        return cls(**{**value, "columns": tuple(value["columns"])})


def detect(file: BinaryIO) -> CsvDialect:
    """The dialect of a seekable file, which is left at its beginning.

    Reads the whole file once, to be sure of its encoding, in little memory. Raises InvalidRequest, naming the line, for
    a file that is empty, is no text, or whose header cannot be read. Whether rows follow is csv_rows.read's to say.
    """
    encoding = text_encoding.detect(file)
    try:
        dialect = _dialect(file, encoding)
    except CannotReadOn as error:
        raise InvalidRequest(str(error), param="file", code=error.code) from None
    file.seek(0)
    for column in dialect.columns:
        if "\0" in column:
            raise InvalidRequest(
                f"line {dialect.header_lines}, the header, holds a NUL byte: this is no text, or it is damaged. "
                "Export it as CSV in UTF-8 and upload it again.",
                param="file",
                code="nul_byte",
            )
    return dialect


def _dialect(file: BinaryIO, encoding: str) -> CsvDialect:
    first_line = next(_lines(file, encoding), "")
    if named := _SEP_LINE.fullmatch(first_line):
        readings = [_header(file, encoding, delimiter=named[1], lines_above=1)]
    else:
        readings = [_header(file, encoding, delimiter, lines_above=0) for delimiter in DELIMITERS]
    # The delimiter that finds the most columns; max gives the first of equals.
    best = max((reading for reading in readings if reading), key=lambda reading: len(reading.columns), default=None)
    # A delimiter that is not the file's makes one column of a header whose quotes do not pair under the one that is.
    if best is None or (len(best.columns) == 1 and None in readings):
        raise InvalidRequest(
            "the header has quotes that do not pair: a quoted name ends with a quote, and a quote inside it is written "
            "twice.",
            param="file",
            code="misplaced_quote",
        )
    return best


def _header(file: BinaryIO, encoding: str, delimiter: str, lines_above: int) -> CsvDialect | None:
    """The dialect if the header is read with this delimiter; None if its quotes do not pair then."""
    lines = islice(_lines(file, encoding), lines_above, None)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for names in reader:
            if len(names) > 1 or "".join(names).strip():
                return CsvDialect(encoding, delimiter, tuple(names), lines_above + reader.line_num)
    except csv.Error:
        return None
    raise InvalidRequest(
        "the file is empty: it needs a header line with the names of its columns, and rows under it.",
        param="file",
        code="empty_file",
    )


def _lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    file.seek(0)
    return iter(Lines(file, encoding))
