"""What is found out about a customer's CSV file before a row of it is read."""

import io
import json
import zipfile
import zlib
from pathlib import Path

import pytest

from common import csv_dialect, csv_rows
from common.csv_dialect import CsvDialect
from common.errors import InvalidRequest

SENTENCES: dict[str, str] = json.loads(Path(__file__).with_name("sentences.json").read_text("utf-8"))

LEGACY = [
    ("french", "cp1252"),
    ("german", "cp1252"),
    ("german", "iso8859_15"),
    ("french", "mac_roman"),
    ("german", "cp850"),
    ("polish", "cp1250"),
    ("polish", "iso8859_2"),
    ("czech", "cp1250"),
    ("czech", "iso8859_2"),
    ("hungarian", "iso8859_2"),
    ("russian", "cp1251"),
    ("russian", "koi8_r"),
    ("russian", "cp866"),
    ("greek", "cp1253"),
    ("turkish", "cp1254"),
    ("japanese", "shift_jis"),
    ("japanese", "euc_jp"),
    ("chinese", "gb18030"),
    ("chinese", "gb2312"),
    ("taiwanese", "big5"),
    ("korean", "euc_kr"),
]

UNICODE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


def csv_of(text: str, delimiter: str = ",", rows: int = 20) -> str:
    lines = [delimiter.join(("id", "name", "review")), *(delimiter.join((str(i), "x y", text)) for i in range(rows))]
    return "\r\n".join(lines).replace(",", delimiter) + "\r\n"


def detect(data: bytes) -> CsvDialect:
    return csv_dialect.detect(io.BytesIO(data))


def refusal(data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        detect(data)
    assert caught.value.param == "file"
    return caught.value


def texts_of(data: bytes) -> set[str]:
    file = io.BytesIO(data)
    found = csv_rows.read(file, csv_dialect.detect(file))
    return {item[1][-1] for item in found if isinstance(item, tuple)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", UNICODE)
def test_every_unicode_encoding_is_read_with_every_delimiter(encoding: str, delimiter: str) -> None:
    for text in ("naïve “quoted” 日本語 😀 über", "plain text"):
        data = csv_of(text, delimiter).encode(encoding)
        assert detect(data).delimiter == delimiter
        assert detect(data).columns == ("id", "name", "review")
        assert texts_of(data) == {text}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(("language", "encoding"), LEGACY)
def test_legacy_encodings_are_read_with_every_delimiter(language: str, encoding: str, delimiter: str) -> None:
    text = SENTENCES[language].replace(",", "").replace(";", "")
    data = csv_of(text, delimiter).encode(encoding)
    assert detect(data).delimiter == delimiter
    assert texts_of(data) == {text}


def test_utf_16_without_a_mark_is_read_in_scripts_that_have_no_ascii() -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        for language in ("chinese", "russian", "greek", "korean"):
            text = SENTENCES[language].replace(",", "")
            assert texts_of(csv_of(text).encode(encoding)) == {text}


def test_a_legacy_byte_far_down_decides_the_encoding() -> None:
    head = "id,review\n" + "".join(f"{i},nothing but ascii here\n" for i in range(50_000))
    data = (head + "50000,le café était très bon\n").encode("cp1252")
    assert detect(data).encoding == "cp1252"
    assert "le café était très bon" in texts_of(data)


def test_several_western_languages_in_one_file_are_one_encoding() -> None:
    rows = [
        *SENTENCES["french"].split(". "),
        *SENTENCES["german"].split(". "),
        "El tamaño es pequeño",
        "Não é bom, então",
    ]
    data = ("review\n" + "\n".join(f'"{row}"' for row in rows)).encode("cp1252")
    assert detect(data).encoding == "cp1252"


def test_utf_8_with_one_damaged_byte_stays_utf_8_and_the_line_is_named() -> None:
    lines = [b"id,review", *(f"{i},café crème".encode() for i in range(2_000))]
    lines[1_234] = b"1233,caf\xe9"
    file = io.BytesIO(b"\n".join(lines))
    dialect = csv_dialect.detect(file)
    assert dialect.encoding == "utf-8"
    *rows, error = csv_rows.read(file, dialect)
    assert len(rows) == 1_233
    assert not isinstance(error, tuple)
    assert (error.code, error.line) == ("undecodable_bytes", 1_235)


def test_utf_8_is_recognised_when_a_character_lies_across_the_chunks() -> None:
    for shift in range(4):
        filler = "x" * (2**20 - len("a\n") - shift)
        assert detect(f"a\n{filler}é😀\n".encode()).encoding == "utf-8"


def test_a_header_may_be_quoted_and_hold_delimiters_and_line_ends() -> None:
    dialect = detect(b'"id;no","the, long\nname";c\n1;2;3\n'.replace(b'no","', b'no";"'))
    assert dialect == CsvDialect("utf-8", ";", ("id;no", "the, long\nname", "c"), header_lines=2)


def test_the_delimiter_that_finds_the_most_columns_wins_and_a_comma_wins_a_tie() -> None:
    assert detect(b"price, net;name;note\n").delimiter == ";"
    assert detect(b"a;b,c\n").delimiter == ","
    assert detect(b"only\n1\n") == CsvDialect("utf-8", ",", ("only",), header_lines=1)


def test_a_header_of_5000_columns_is_read() -> None:
    names = tuple(f"a column with the number {i}" for i in range(5_000))
    assert detect(";".join(names).encode() + b"\n").columns == names


def test_a_repeated_column_is_no_error() -> None:
    assert detect(b"a,b,a\n1,2,3\n").columns == ("a", "b", "a")


@pytest.mark.parametrize("first_line", ["sep=;", '"sep=;"', "SEP=;", "sep=|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_line_in_which_excel_names_the_delimiter_is_obeyed_and_skipped(first_line: str, encoding: str) -> None:
    delimiter = first_line.strip('"')[-1]
    data = f"{first_line}\r\na,b{delimiter}c\r\n1{delimiter}2\r\n".encode(encoding)
    file = io.BytesIO(data)
    dialect = csv_dialect.detect(file)
    assert (dialect.delimiter, dialect.columns, dialect.header_lines) == (delimiter, ("a,b", "c"), 2)
    assert list(csv_rows.read(file, dialect)) == [(3, ["1", "2"])]


def test_blank_lines_above_the_header_are_skipped() -> None:
    file = io.BytesIO(b"\n  \r\n\na,b\n\n1,2\n")
    dialect = csv_dialect.detect(file)
    assert (dialect.columns, dialect.header_lines) == (("a", "b"), 4)
    assert list(csv_rows.read(file, dialect)) == [(6, ["1", "2"])]


def test_a_dialect_survives_json() -> None:
    dialect = detect('name;"größe"\n1;2\n'.encode("utf-16"))
    assert CsvDialect.from_dict(json.loads(json.dumps(dialect.to_dict()))) == dialect


@pytest.mark.parametrize("data", [b"", b"\n\n \r\n", b"\xef\xbb\xbf", b"\xff\xfe", "\n".encode("utf-16"), b"sep=;\n"])
def test_a_file_without_a_header_is_refused_as_empty(data: bytes) -> None:
    assert refusal(data).code == "empty_file"


def test_pictures_and_archives_are_refused_by_name() -> None:
    pixels = b"".join(b"\0" + bytes((x * y) % 256 for x in range(64)) for y in range(64))
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40\x08\0\0\0\0" + zlib.compress(pixels)
    assert "PNG picture" in refusal(png).message
    workbook = io.BytesIO()
    with zipfile.ZipFile(workbook, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<row/>" * 1_000)
    error = refusal(workbook.getvalue())
    assert "Excel workbook" in error.message
    assert "Save As, CSV UTF-8" in error.message
    assert error.code == "not_text"


def test_bytes_of_no_kind_are_refused_and_the_line_is_named() -> None:
    noise = bytes((i * i * 7919 + i // 3) % 256 for i in range(50_000)).replace(b"\n", b"")
    error = refusal(b"a,b\n1,2\n" + noise)
    assert "line 3" in error.message


def test_a_header_with_a_nul_byte_is_refused() -> None:
    error = refusal(b"a,b\0,c\n1,2,3\n")
    assert error.code == "nul_byte"
    assert "line 1" in error.message


def test_a_header_that_is_not_in_the_encoding_its_mark_says_is_refused() -> None:
    error = refusal(b"\xff\xfea\x00,\x00\x00\xd8a\x00\n\x00")
    assert error.code == "undecodable_bytes"
    assert "line 1" in error.message


def test_a_nul_byte_in_a_row_is_left_to_the_row_reader() -> None:
    assert detect(b"a,b\n1,2\n3,\0\n").encoding == "utf-8"


def test_a_header_whose_quote_is_never_closed_is_refused_without_reading_on_for_ever() -> None:
    read: list[int] = []

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            read.append(1)
            return super().read(size)

    file = Endless(b'a,"b\n' + b"1,2\n" * 5_000_000)
    file.read()
    file.seek(0)
    with pytest.raises(InvalidRequest, match="quotes that do not pair"):
        csv_dialect.detect(file)
    assert len(read) < 20 + 3 * 70


def test_a_file_is_left_at_its_beginning() -> None:
    file = io.BytesIO("ä,b\n1,2\n".encode("cp1252"))
    csv_dialect.detect(file)
    assert file.tell() == 0
