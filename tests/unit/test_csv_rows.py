"""Every row of a customer's file comes out once, with its line, or is named with what is wrong with it."""

import csv
import io
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import csv_dialect, csv_lines, csv_rows
from common.csv_dialect import CsvDialect
from common.csv_lines import BLOCK_BYTES, MAX_ROW_CHARACTERS
from common.errors import LineError

Item = tuple[int, list[str]] | LineError


def read(data: bytes, encoding: str = "utf-8", delimiter: str = ",", width: int | None = None) -> list[Item]:
    """The rows of a file whose header is one line; without a width it is found out as for a customer."""
    file = io.BytesIO(data)
    if width is None:
        dialect = csv_dialect.detect(file)
    else:
        dialect = CsvDialect(encoding, delimiter, tuple(f"c{i}" for i in range(width)), header_lines=1)
    return list(csv_rows.read(file, dialect))


def rows(items: list[Item]) -> list[list[str]]:
    return [item[1] for item in items if isinstance(item, tuple)]


def problems(items: list[Item]) -> list[tuple[str, int]]:
    return [(item.code, item.line) for item in items if isinstance(item, LineError)]


# No NUL, which is an error, and no half surrogates, which no file has.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text(
    '",;\t\r\n a\x0b\x0c\x1c\x85\u2028\ufeffé😀', max_size=12
)


@given(
    table=st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1)
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_writer_wrote_comes_back_cell_for_cell(
    table: list[list[str]], encoding: str, delimiter: str, line_end: str, quoting: Literal[0, 1]
) -> None:
    text = io.StringIO(newline="")
    # A writer quotes only the line end it writes itself: this one writes them all and the test puts in its own.
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n", quoting=quoting)
    writer.writerow(["c"] * len(table[0]))
    starts = []
    for row in table:
        starts.append(text.tell())
        writer.writerow(row)
    whole = text.getvalue()
    lines = [whole[a:b].removesuffix("\r\n") for a, b in pairwise([0, *starts, len(whole)])]
    data = line_end.join(lines).encode(encoding)
    items = read(data, encoding, delimiter, width=len(table[0]))
    # A writer makes a blank line of a row whose one cell is spaces.
    expected = [row for row, line in zip(table, lines[1:], strict=True) if not (len(row) == 1 and line.isspace())]
    assert rows(items) == expected
    assert [code for code, _ in problems(items)] == ([] if expected else ["empty_file"])
    dialect = CsvDialect(encoding, delimiter, tuple("c" * len(table[0])), header_lines=1)
    copied = "".join(f"{row}\r\n" for row in csv_rows.copy(io.BytesIO(data), dialect))
    # The csv module, too, takes a line without a character for no row at all.
    assert [row or [""] for row in csv.reader(io.StringIO(copied, newline=""), strict=True)] == expected


@given(st.text(st.sampled_from('ab",;\r\n \x0b\u2028'), max_size=60))
def test_whatever_the_text_rows_and_lines_are_those_of_the_csv_module(text: str) -> None:
    items = read(f"a,b\n{text}".encode(), width=2)
    expected: list[tuple[int, list[str]]] = []
    fails = False
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 2
    try:
        for row in reader:
            if len(row) == 2:
                expected.append((line, row))
            line = 2 + reader.line_num
    except csv.Error:
        fails = True
    assert [item for item in items if isinstance(item, tuple)] == expected
    assert fails == bool({code for code, _ in problems(items)} & {"unclosed_quote", "misplaced_quote"})


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "cp932"])
def test_lines_are_counted_as_an_editor_counts_them(line_end: str, encoding: str) -> None:
    lines = ["a,b", "1,x", "", '2,"one', "two", "", 'three"', "  ", "3,y", '4,"q"', "5,z"]
    items = read(line_end.join(lines).encode(encoding), encoding, width=2)
    quoted = line_end.join(["one", "two", "", "three"])
    assert items == [(2, ["1", "x"]), (4, ["2", quoted]), (9, ["3", "y"]), (10, ["4", "q"]), (11, ["5", "z"])]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-8-sig"])
def test_blocks_may_end_anywhere_in_a_line_a_line_end_or_a_character(line_end: str, encoding: str) -> None:
    for shift in range(5):
        table = [
            ["n", "text"],
            ["x" * shift, "é"],
            *([str(i), "né, 😀\r\nà" if i % 7 else "plain é"] for i in range(9_000)),
        ]
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(table[:2])
        whole = text.getvalue().replace("\r\n", line_end)
        whole += "".join(f'{n},"{cell}"{line_end}' if "," in cell else f"{n},{cell}{line_end}" for n, cell in table[2:])
        data = whole.encode(encoding)
        assert len(data) > 2 * BLOCK_BYTES
        assert rows(read(data, encoding, width=2)) == table[1:]


def test_a_ragged_row_is_named_and_the_rows_after_it_are_read() -> None:
    items = read(b"a,b,c,d\n1,2,3,4\n1,2,3\n1,2,3,4,5\n\nx\n5,6,7,8\n")
    assert items == [
        (2, ["1", "2", "3", "4"]),
        LineError("ragged_row", 3, "line 3 has 3 columns, the header has 4", "file"),
        LineError("ragged_row", 4, "line 4 has 5 columns, the header has 4", "file"),
        LineError("ragged_row", 6, "line 6 has 1 column, the header has 4", "file"),
        (7, ["5", "6", "7", "8"]),
    ]


def test_a_nul_byte_is_named_and_the_rows_around_it_are_read() -> None:
    items = read(b'a,b\n1,2\n3,"\0x"\n4,5\n6\0,7\n')
    assert rows(items) == [["1", "2"], ["4", "5"]]
    assert problems(items) == [("nul_byte", 3), ("nul_byte", 5)]


def test_all_of_many_errors_come_out() -> None:
    items = read(b"a,b\n" + b"1,2\n1\n" * 5_000)
    assert len(rows(items)) == 5_000
    assert problems(items) == [("ragged_row", line) for line in range(3, 10_003, 2)]


def test_a_quote_that_is_never_closed_ends_the_rows_and_is_named_where_it_opens() -> None:
    items = read(b'a,b\n1,2\n\n3,"four\n5,6\n7,8\n')
    assert items[0] == (2, ["1", "2"])
    assert problems(items) == [("unclosed_quote", 4)]


def test_a_quote_that_the_next_quote_closes_is_named_with_both_lines() -> None:
    items = read(b'a,b\n1,2\n3,"four\n5,"six"\n7,8\n')
    assert rows(items) == [["1", "2"]]
    assert problems(items) == [("misplaced_quote", 3)]
    assert isinstance(items[-1], LineError)
    assert "line 4" in items[-1].message


def test_a_quote_never_closed_in_a_great_file_is_given_up_in_little_memory() -> None:
    class Endless(io.RawIOBase):
        served = 0

        def read(self, size: int = -1, /) -> bytes:
            self.served += 1
            return b'a,b\n1,"2\n' if self.served == 1 else b"some words without an end,\n" * 2_400

    tracemalloc.start()
    file = Endless()
    # It has what the reader uses of a file.
    items = list(csv_rows.read(file, CsvDialect("utf-8", ",", ("a", "b"), 1)))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problems(items) == [("row_too_long", 2)]
    assert file.served * 64_800 < MAX_ROW_CHARACTERS + 4 * BLOCK_BYTES
    assert peak < 60e6


def test_a_line_without_an_end_is_given_up_in_little_memory() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            return b"x" * size

    first = io.BytesIO(b"a,b\n1,2\n")
    file = Chained(first, Endless())
    # It has what the reader uses of a file.
    items = list(csv_rows.read(file, CsvDialect("utf-8", ",", ("a", "b"), 1)))  # type: ignore[arg-type]
    assert rows(items) == [["1", "2"]]
    assert problems(items) == [("row_too_long", 3)]


class Chained(io.RawIOBase):
    def __init__(self, *files: io.IOBase) -> None:
        self._files = list(files)

    def read(self, size: int = -1, /) -> bytes:
        while self._files:
            if data := self._files[0].read(size):
                return bytes(data)
            self._files.pop(0)
        return b""


def test_a_cell_up_to_the_limit_is_read_quoted_or_not() -> None:
    long = "y" * (MAX_ROW_CHARACTERS - 10)
    assert rows(read(f'a,b\n1,{long}\n2,"{long}"\n'.encode())) == [["1", long], ["2", long]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "cp932", "gb18030"])
def test_bytes_that_are_no_text_end_the_rows_and_their_line_is_named(encoding: str) -> None:
    bad = {"utf-16": b"\x00\xd8\n\x00", "cp1252": b"\x81", "cp932": b"\x81"}.get(encoding, b"\xff")
    good = "a,b\r\n" + "".join(f"{i},words\r\n" for i in range(30_000)) + '30000,"x\r\nyz'
    items = read(good.encode(encoding) + bad + '"\r\n1,2\r\n'.encode(encoding), encoding, width=2)
    assert len(rows(items)) == 30_000
    assert problems(items) == [("undecodable_bytes", 30_003)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_bad_bytes_right_after_a_line_end_are_on_the_next_line(line_end: str) -> None:
    items = read(f"a,b{line_end}1,2{line_end}".encode() + b"\xff,3", width=2)
    assert rows(items) == [["1", "2"]]
    assert problems(items) == [("undecodable_bytes", 3)]


def test_a_character_cut_off_at_the_end_of_the_file_is_named() -> None:
    items = read("a,b\n1,2\n3,é".encode()[:-1], width=2)
    assert problems(items) == [("undecodable_bytes", 3)]


@pytest.mark.parametrize("data", [b"a,b", b"a,b\n", b"a,b\r\n\r\n \r\n"])
def test_a_header_without_rows_is_an_error(data: bytes) -> None:
    items = read(data)
    assert [code for code, _ in problems(items)] == ["empty_file"]


def test_a_file_of_one_column_keeps_its_empty_cells_and_skips_blank_lines() -> None:
    assert read(b'review\nfine\n\n""\n   \n" "\n', width=1) == [(2, ["fine"]), (4, [""]), (6, [" "])]


def test_a_row_of_empty_cells_is_a_row() -> None:
    assert rows(read(b"a\tb\tc\n\t\t\n1\t2\t3\n")) == [["", "", ""], ["1", "2", "3"]]


def test_quotes_within_an_unquoted_cell_are_text() -> None:
    assert rows(read(b'a,b\n5" pipe,2\n3,he said "no"\n')) == [['5" pipe', "2"], ["3", 'he said "no"']]


def test_reading_takes_the_memory_of_a_block_whatever_the_size_of_the_file() -> None:
    class Generated(io.RawIOBase):
        left = 40

        def read(self, size: int = -1, /) -> bytes:
            self.left -= 1
            return b'1,"some text, quoted"\n2,more of it\n' * 2_000 if self.left >= 0 else b""

    def items() -> Iterator[Item]:
        # It has what the reader uses of a file.
        return csv_rows.read(Generated(), CsvDialect("utf-8", ",", ("a", "b"), 0))  # type: ignore[arg-type]

    tracemalloc.start()
    count = sum(1 for _ in items())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 40 * 4_000
    assert peak < 3e6


@given(st.text(st.sampled_from("ab\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0"), max_size=40), st.integers(1, 5))
def test_lines_are_those_of_universal_newlines_whatever_the_blocks(text: str, at_once: int) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(at_once)

    expected = list(io.StringIO(text, newline=""))
    assert list(csv_lines.Lines(Slow(text.encode()), "utf-8")) == expected
