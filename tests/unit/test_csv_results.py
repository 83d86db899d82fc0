"""Result files give the customer's own columns back as they came, with ours behind them."""

import csv
import io
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import csv_results
from common.csv_results import RESULT_COLUMNS
from common.csv_text import joined

OTHERS = "succeeded,,12,0,0.00012345"


Cells = tuple[list[str], str | None, str]


def with_text(rows: Iterable[Cells]) -> Iterator[tuple[str, str | None, str]]:
    return ((joined(cells), output, others) for cells, output, others in rows)


def written(columns: list[str], rows: list[Cells]) -> list[list[str]]:
    data = b"".join(csv_results.write(columns, with_text(rows)))
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def test_ours_stand_behind_the_customers_columns_with_the_cost_in_dollars() -> None:
    rows: list[Cells] = [(["1", "a"], "fine", OTHERS), (["2", ""], None, "failed,the prompt is empty,,,")]
    assert b"".join(csv_results.write(["id", "review"], with_text(rows))).decode().split("\r\n") == [
        "id,review,output,status,error,prompt_tokens,completion_tokens,cost",
        "1,a,fine,succeeded,,12,0,0.00012345",
        "2,,,failed,the prompt is empty,,,",
        "",
    ]


def test_a_column_of_the_customers_keeps_its_name_and_ours_gets_a_prefix() -> None:
    columns = ["status", "output", "batchyard_output", "Cost"]
    ours = ["batchyard_batchyard_output", "batchyard_status", "error", "prompt_tokens", "completion_tokens", "cost"]
    assert csv_results.header(columns) == [*columns, *ours]


def test_no_rows_give_the_header_alone() -> None:
    assert written(["id"], []) == [["id", *RESULT_COLUMNS]]


@given(
    st.lists(
        st.tuples(
            st.lists(
                st.text(st.characters(codec="utf-8")) | st.text(st.sampled_from('",\r\n \té')), min_size=2, max_size=2
            ),
            st.text(st.sampled_from('a",\r\n;=')),
        )
    )
)
def test_every_cell_is_written_as_the_csv_module_writes_it(table: list[tuple[list[str], str]]) -> None:
    rows = [(cells, output, OTHERS) for cells, output in table]
    expected = io.StringIO(newline="")
    writer = csv.writer(expected, lineterminator="\r\n")
    writer.writerow(["a", "b", *RESULT_COLUMNS])
    writer.writerows([*cells, output, "succeeded", "", 12, 0, "0.00012345"] for cells, output in table)
    assert b"".join(csv_results.write(["a", "b"], with_text(rows))).decode() == expected.getvalue()


def test_rows_are_written_as_they_come_in_chunks_of_a_bounded_size() -> None:
    taken = 0

    def rows() -> Iterator[Cells]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield [str(number), "x" * 100], "fine", OTHERS

    chunks = csv_results.write(["id", "text"], with_text(rows()))
    first = next(chunks)
    assert taken < 1_000
    sizes = [len(first), *map(len, chunks)]
    assert max(sizes) < csv_results.CHUNK_CHARACTERS + 300
    assert min(sizes[:-1]) >= csv_results.CHUNK_CHARACTERS
    assert taken == 10_000


@pytest.mark.parametrize("output", ["half \ud83d pair", "\udc00"])
def test_half_a_surrogate_pair_does_not_break_the_file(output: str) -> None:
    assert written(["id"], [(["1"], output, OTHERS)])[1][1].count("?") == 1
