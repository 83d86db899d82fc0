"""The rows of a customer's CSV file, one at a time, each with the line it starts at.

csv.reader looks at every character of every row in turn. Many rows hold no quote, or one quoted cell at their end, as
exports with a text in their last column have; for those str.split gives the same cells in a fraction of the time. Only
the others go through csv.reader.
"""

import csv
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from common.csv_dialect import CsvDialect
from common.csv_lines import MAX_ROW_CHARACTERS, CannotReadOn, Lines
from common.csv_text import joined
from common.errors import LineError

_LINE_ENDS = frozenset(("\n", "\r\n", "\r", ""))


def read(file: BinaryIO, dialect: CsvDialect) -> Iterator[tuple[int, list[str]] | LineError]:
    """Every row under the header as (line, cells), where line is the physical line it starts at, counted from 1.

    `file` stands at its beginning; it is read once, forward, in the memory of one block. Blank lines are skipped.
    A line that cannot be used comes as a LineError in its place. Rows go on after ragged_row and nul_byte; they end at
    unclosed_quote, misplaced_quote, undecodable_bytes and row_too_long, after which nobody knows where a row begins.
    A file with a header alone gives one LineError, empty_file.
    """
    source = Lines(file, dialect.encoding)
    lines = iter(source)
    width, delimiter = len(dialect.columns), dialect.delimiter
    quoted = _QuotedRows(lines, delimiter)
    quoted_row = quoted.row
    # A row of one column may be a blank line: it always takes the slower way, through _judged.
    plain_width = width if width > 1 else -1
    empty = True
    line = dialect.header_lines + 1
    try:
        for text in islice(lines, dialect.header_lines, None):
            if '"' in text:
                row, lines_taken = quoted_row(text)
            else:
                row, lines_taken = text.rstrip("\r\n").split(delimiter), 1
            if len(row) == plain_width and not source.holds_nul:
                yield line, row
                empty = False
            elif not (len(row) == 1 and text.isspace()):
                yield _judged(line, row, width)
                empty = False
            line += lines_taken
    except CannotReadOn as end:
        yield LineError(end.code, end.line, str(end), "file")
    except csv.Error:
        yield quoted.error(line)
    else:
        if empty:
            yield LineError("empty_file", line, "the file has a header and no rows under it", "file")


def copy(file: BinaryIO, dialect: CsvDialect) -> Iterator[str]:
    """The rows of a file that `read` found no fault with, each as comma-separated CSV without its line's end. Cells
    keep their text; in a comma-separated file, a row of one line is copied as it stands."""
    lines = iter(Lines(file, dialect.encoding))
    delimiter, as_it_stands = dialect.delimiter, dialect.delimiter == ","
    quoted_row = _QuotedRows(lines, delimiter).row
    for text in islice(lines, dialect.header_lines, None):
        if '"' in text:
            row, lines_taken = quoted_row(text)
            yield text.rstrip("\r\n") if as_it_stands and lines_taken == 1 else joined(row)
        elif as_it_stands:
            if not text.isspace():
                yield text.rstrip("\r\n")
        elif not text.isspace() or delimiter in text:
            yield joined(text.rstrip("\r\n").split(delimiter))


def _judged(line: int, row: list[str], width: int) -> tuple[int, list[str]] | LineError:
    if any("\0" in cell for cell in row):
        return LineError("nul_byte", line, f"line {line} holds a NUL byte, which is no text; remove it", "file")
    if len(row) != width:
        columns = f"{len(row)} column{'s' if len(row) != 1 else ''}"
        return LineError("ragged_row", line, f"line {line} has {columns}, the header has {width}", "file")
    return line, row


class _QuotedRows:
    """Reads the rows that begin on a line with a quote, taking from `lines` the further lines such a row goes on to."""

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._first_line: list[str] = []
        self._lines_before = 0
        self._fault = "misplaced_quote"
        # One csv.reader for all rows: making one per row costs a third of reading it.
        self._reader = csv.reader(self._lines_of_rows(), delimiter=delimiter, strict=True)

    def row(self, first_line: str) -> tuple[list[str], int]:
        """The row that begins with `first_line`, and how many lines it takes.

        Raises csv.Error when its quotes do not pair; then ask for `error`.
        """
        # Text before a quoted cell, the cell, and nothing behind it.
        pieces = first_line.split('"', 3)
        if len(pieces) == 3 and pieces[0].endswith(self._delimiter) and pieces[2] in _LINE_ENDS:
            row = pieces[0].split(self._delimiter)
            row[-1] = pieces[1]
            return row, 1
        self._first_line.append(first_line)
        reader = self._reader
        self._lines_before = before = reader.line_num
        return next(reader), reader.line_num - before

    def error(self, line: int) -> LineError:
        """What is wrong with the row that began at `line` and raised csv.Error."""
        if self._fault == "misplaced_quote":
            last_line = line + self._reader.line_num - self._lines_before - 1
            reason = (
                f"starts a row in which a quoted cell goes on after its closing quote, at line {last_line}; "
                "a quote inside a quoted cell is written twice"
            )
        elif self._fault == "unclosed_quote":
            reason = "starts a row with a quote that is never closed"
        else:
            reason = f"starts a row of over {MAX_ROW_CHARACTERS:,} characters; is a quote in it never closed?"
        return LineError(self._fault, line, f"line {line} {reason}", "file")

    def _lines_of_rows(self) -> Iterator[str]:
        while True:
            text = self._first_line.pop()
            yield text
            length = len(text)
            # csv.reader asks for a further line only inside a quoted cell: to end here is an error to it.
            while not self._first_line:
                text = next(self._lines, "")
                length += len(text)
                if not text:
                    self._fault = "unclosed_quote"
                    return
                if length > MAX_ROW_CHARACTERS:
                    self._fault = "row_too_long"
                    return
                yield text
