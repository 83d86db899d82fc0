"""A CSV of prompts in, the same rows with their answers out."""

import csv
import io
import json
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from common.csv_results import RESULT_COLUMNS
from local.stack import Stack
from tests.conftest import NewCustomer
from tests.customer import Customer, answer, batch_uuid, refusal
from tests.sleeping import workers_asleep
from tests.waiting import wait_for

OURS = list(RESULT_COLUMNS)
Rows = list[list[str]]

# A spreadsheet as people have them: quotes, newlines, delimiters and empty cells within the cells.
TRICKY: Rows = [
    ["id", "text", "note"],
    ["1", "plain", ""],
    ["2", 'she said "yes", twice', "a;b"],
    ["3", "first line\nsecond line", "tab\there"],
    ["4", "  blanks around  ", "'"],
    ["5", "carriage\r\nreturn", '""'],
    ["6", "=SUM(A1:A2)", "{{text}}"],
    ["7", "100 % of %s", "\\n"],
]
LATIN: Rows = [
    ["name", "text"],
    ["Zoë", "Der Käse schmeckt großartig, schön!"],
    ["José", "¿Dónde está el café? ¡Qué maravilla!"],
    ["Chloé", "Très déçue: l'hôtel était sale, le petit-déjeuner froid."],
]
WORLD: Rows = [["имя", "text"], ["Анна", "Очень вкусно ☃"], ["花子", "とても良い"], ["\U0001f600", "a\u2028b"]]


def written(rows: Rows, encoding: str = "utf-8", delimiter: str = ",", line_end: str = "\r\n") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return text.getvalue().encode(encoding)


FILES: dict[str, tuple[bytes, Rows]] = {
    "UTF-8": (written(TRICKY), TRICKY),
    "UTF-8 with a byte order mark": (written(WORLD, "utf-8-sig"), WORLD),
    "UTF-16 with a byte order mark": (written(WORLD, "utf-16"), WORLD),
    "UTF-16 little-endian without one": (written(LATIN, "utf-16-le"), LATIN),
    "Windows-1252": (written(LATIN, "cp1252"), LATIN),
    "semicolons": (written(TRICKY, delimiter=";"), TRICKY),
    "tabs": (written(TRICKY, delimiter="\t"), TRICKY),
    "Unix line ends": (written(TRICKY[:4], line_end="\n"), TRICKY[:4]),
    "old Mac line ends": (written(TRICKY[:3], line_end="\r"), TRICKY[:3]),
    "no line end at the end": (written(TRICKY).removesuffix(b"\r\n"), TRICKY),
    "blank lines between": (b"id,text\r\n\r\n1,a\r\n\r\n\r\n2,b\r\n\r\n", [["id", "text"], ["1", "a"], ["2", "b"]]),
    "one column": (b'text\n"a\nb"\nc\n', [["text"], ["a\nb"], ["c"]]),
    "columns of one name": (b"text,x,x\na,1,2\n", [["text", "x", "x"], ["a", "1", "2"]]),
    "a column without a name": (b"text,\na,1\n", [["text", ""], ["a", "1"]]),
    "blanks around the names": (b" text ,n\na,1\n", [[" text ", "n"], ["a", "1"]]),
}


@pytest.fixture(scope="module")
def uploaded(new_customer: NewCustomer) -> tuple[Customer, dict[str, str]]:
    """Each of FILES as a batch; the ids by the names."""
    customer = new_customer()
    ids = {name: customer.create_batch(content)["id"] for name, (content, _) in FILES.items()}
    return customer, ids


def table(customer: Customer, batch_id: str) -> Rows:
    """The result CSV, cell by cell."""
    response = customer.get(f"/v1/batches/{batch_id}/results", format="csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(response.content.decode(), newline="")))


@pytest.mark.parametrize("name", FILES)
def test_every_input_row_comes_back_as_it_was_and_once_and_in_order_with_ours_behind(
    uploaded: tuple[Customer, dict[str, str]], name: str
) -> None:
    customer, ids = uploaded
    batch = customer.ended_batch(ids[name])
    assert batch["status"] == "completed"
    assert batch["completed_at"] >= batch["in_progress_at"] >= batch["created_at"]
    header, *rows = table(customer, ids[name])
    (_, (own_header, *own_rows)) = FILES[name]
    width = len(own_header)
    assert header == own_header + OURS
    assert [row[:width] for row in rows] == own_rows
    for row in rows:
        ours = dict(zip(OURS, row[width:], strict=True))
        assert ours["output"]
        assert (ours["status"], ours["error"]) == ("succeeded", "")
        cost = int(ours["prompt_tokens"]) * Decimal("0.15") + int(ours["completion_tokens"]) * Decimal("0.60")
        assert Decimal(ours["cost"]) == cost / 10**6 > 0


def test_a_column_of_ours_that_is_there_already_stays_the_customers(customer: Customer) -> None:
    content = b"text,output,status,batchyard_status\nhello,mine,kept,too\n"
    batch = customer.ended_batch(customer.create_batch(content)["id"])
    header, row = table(customer, batch["id"])
    assert header[:4] == ["text", "output", "status", "batchyard_status"]
    assert row[:4] == ["hello", "mine", "kept", "too"]
    assert header[4:6] == ["batchyard_output", "batchyard_batchyard_status"]
    assert row[5] == "succeeded"


def test_prompt_system_and_fields_become_each_rows_call(customer: Customer) -> None:
    fields = {
        "prompt": "Greet {{name}} of {{ town }}.",
        "system": "You are {{role}}.",
        "max_tokens": "3",
        "temperature": "0.5",
        "response_format": '{"type": "text"}',
        "metadata": '{"order": "17"}',
    }
    accepted = customer.create_batch(b"name,town,role\nAnn,Ulm,a clown\nBo,Rome,shy\n", **fields)
    assert accepted["metadata"] == {"order": "17"}
    assert accepted["kind"] == "csv"
    assert accepted["input_file_id"].startswith("file-")
    batch = customer.ended_batch(accepted["id"])
    assert batch["usage"]["output_tokens"] == 2 * 3
    row = customer.job(accepted["id"].replace("batch_", "job_") + "_0")
    assert row["batch_id"] == accepted["id"]
    # The provider counts a token for every four characters of the messages, four for each and three for the answer.
    characters = len("You are a clown.\nGreet Ann of Ulm.")
    assert row["usage"]["prompt_tokens"] == -(-characters // 4) + 2 * 4 + 3
    assert row["usage"]["completion_tokens"] == 3


def test_a_row_whose_prompt_is_blank_fails_alone_and_is_never_called(customer: Customer) -> None:
    content = b'text,n\nhello,1\n,2\n" \n\t",3\nbye,4\n'
    batch = customer.ended_batch(customer.create_batch(content, prompt="{{text}}")["id"])
    assert batch["status"] == "completed"
    assert batch["counts"] | {"succeeded": 2, "failed": 2, "total": 4, "pending": 0} == batch["counts"]
    _, rows = customer.results(batch["id"])
    assert [row["status"] for row in rows] == ["succeeded", "failed", "failed", "succeeded"]
    for row in rows[1:3]:
        assert row["error"] == "The prompt of this row is empty."
        assert (row["output"], row["prompt_tokens"], row["completion_tokens"], row["cost"]) == ("", "", "", "")
    assert customer.job(batch["id"].replace("batch_", "job_") + "_1")["attempts"] == 0


def test_a_batch_of_blank_rows_alone_ends_by_itself(customer: Customer) -> None:
    batch = customer.ended_batch(customer.create_batch(b"text,n\n,1\n,2\n", prompt="{{text}}")["id"])
    assert batch["status"] == "completed"
    assert batch["counts"]["failed"] == batch["counts"]["total"] == 2


def lines(customer: Customer, batch_id: str) -> list[dict[str, Any]]:
    response = customer.get(f"/v1/batches/{batch_id}/results", format="jsonl")
    assert response.headers["content-type"] == "application/jsonl; charset=utf-8"
    return [json.loads(line) for line in response.text.splitlines()]


def test_results_as_json_lines_say_all_of_each_row_under_its_custom_id(customer: Customer) -> None:
    content = "custom_id,text\nfirst,a\n\u00fcber,b\n3 ,c\n".encode()
    batch = customer.ended_batch(customer.create_batch(content)["id"])
    found = lines(customer, batch["id"])
    assert [line["custom_id"] for line in found] == ["first", "über", "3 "]
    for line in found:
        assert set(line) == {"custom_id", "status", "output", "response", "error", "usage", "cost", "receipt"}
        assert line["status"] == "succeeded"
        assert line["output"] == line["response"]["body"]["choices"][0]["message"]["content"]
        assert line["response"]["status_code"] == 200
        assert line["error"] is None
        assert line["usage"]["prompt_tokens"] > 0
        assert Decimal(line["cost"]) > 0
        assert line["receipt"]["cost"]["usd"] == line["cost"]


def test_rows_without_a_custom_id_are_named_by_their_number(customer: Customer) -> None:
    batch = customer.ended_batch(customer.create_batch(b"text\na\n\nb\nc\n")["id"])
    assert [line["custom_id"] for line in lines(customer, batch["id"])] == ["1", "2", "3"]


def test_rows_that_fail_say_why_and_the_others_are_not_held_up(
    customer: Customer, stack_database: psycopg.Connection
) -> None:
    content = b"text\n" + b"".join(b"row %d\n" % number for number in range(200))
    batch = customer.ended_batch(customer.create_batch(content, model="sim-400-p-30")["id"])
    assert batch["status"] == "completed"
    header, rows = customer.results(batch["id"])
    assert header == ["text", *OURS]
    assert [row["text"] for row in rows] == [f"row {number}" for number in range(200)]
    counts = Counter(row["status"] for row in rows)
    assert counts["succeeded"] == batch["counts"]["succeeded"] == batch["request_counts"]["completed"] > 100
    assert counts["failed"] == batch["counts"]["failed"] == batch["request_counts"]["failed"] > 20
    assert all("does not support 0.7" in row["error"] for row in rows if row["status"] == "failed")

    succeeded = [row for row in rows if row["status"] == "succeeded"]
    assert batch["usage"]["input_tokens"] == sum(int(row["prompt_tokens"]) for row in succeeded)
    assert batch["usage"]["output_tokens"] == sum(int(row["completion_tokens"]) for row in succeeded)
    assert batch["usage"]["total_tokens"] == batch["usage"]["input_tokens"] + batch["usage"]["output_tokens"]
    assert Decimal(batch["cost"]["usd"]) == sum(Decimal(row["cost"]) for row in succeeded)
    receipts = stack_database.execute(
        "SELECT count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost) FROM usage_records WHERE batch_id = %s",
        [batch_uuid(batch)],
    ).fetchone()
    usage = batch["usage"]
    assert receipts == (len(succeeded), usage["input_tokens"], usage["output_tokens"], batch["cost"]["nano_usd"])


def test_a_running_batch_tells_how_far_it_is_and_cancelling_ends_every_row_once(
    customer: Customer, stack_database: psycopg.Connection
) -> None:
    # Many times the calls that are in flight at once: it runs for many seconds unless it is cancelled.
    content = b"text,n\n" + b"".join(b"row %d,%d\n" % (number, number) for number in range(10_000)) + b",10000\n"
    batch_id = customer.create_batch(content, model="sim-latency-500ms", prompt="{{text}}")["id"]
    running = wait_for(lambda: customer.batch(batch_id), lambda batch: batch["counts"]["succeeded"] > 0)
    assert running["status"] == "in_progress"
    assert running["rows_per_second"] > 0
    assert running["estimated_completion_at"] >= running["in_progress_at"] >= running["created_at"]
    counts = running["counts"]
    assert counts["total"] == counts["succeeded"] + counts["failed"] + counts["pending"] == 10_001
    _, rows = customer.results(batch_id)
    assert [row["n"] for row in rows] == [str(number) for number in range(10_001)]
    assert {row["status"] for row in rows} == {"succeeded", "failed", "pending"}
    for row in rows:
        assert (row["status"] == "succeeded") == (row["output"] != "") == (row["cost"] != "")

    cancelling = answer(customer.post(f"/v1/batches/{batch_id}/cancel"))
    assert cancelling["status"] in ("cancelling", "cancelled")
    assert cancelling["cancelling_at"] is not None
    assert customer.post(f"/v1/batches/{batch_id}/cancel").status_code in (200, 409)
    batch = customer.ended_batch(batch_id)
    assert batch["rows_per_second"] == 0
    assert batch["estimated_completion_at"] is None
    counts = batch["counts"]
    assert batch["status"] == "cancelled"
    assert counts["failed"] == 1
    assert counts["succeeded"] >= 1
    assert counts["cancelled"] >= 1
    assert counts["succeeded"] + counts["failed"] + counts["cancelled"] == counts["total"] == 10_001
    _, rows = customer.results(batch_id)
    assert [row["n"] for row in rows] == [str(number) for number in range(10_001)]
    assert Counter(row["status"] for row in rows) == {
        kind: counts[kind] for kind in ("succeeded", "failed", "cancelled")
    }
    uuid = UUID(batch_id.removeprefix("batch_"))
    for table_name, expected in (("results", 10_001), ("usage_records", counts["succeeded"]), ("claims", 0)):
        query = f"SELECT count(*) FROM {table_name} WHERE batch_id = %s"
        assert stack_database.execute(query, [uuid]).fetchone() == (expected,)
    response = customer.post(f"/v1/batches/{batch_id}/cancel")
    assert "cancelled" in refusal(response, 409)["message"]
    assert response.headers["x-should-retry"] == "false"


def test_a_batch_cancelled_before_it_was_read_ends_at_once_without_rows(
    stack: Stack, customer: Customer, stack_database: psycopg.Connection
) -> None:
    with workers_asleep(stack):
        batch_id = customer.create_batch(b"text\na\nb\n")["id"]
        assert customer.batch(batch_id)["status"] == "validating"
        error = refusal(customer.get(f"/v1/batches/{batch_id}/results"), 409)
        assert "validated" in error["message"]
        batch = answer(customer.post(f"/v1/batches/{batch_id}/cancel"))
        assert batch["status"] == "cancelled"
        assert table(customer, batch_id) == [["text", *OURS]]
    # The task that was to read it is still in its queue, before this one.
    after = customer.ended_batch(customer.create_batch(b"text\na\n")["id"])
    assert after["status"] == "completed"
    assert customer.batch(batch_id) == batch
    assert stack_database.execute("SELECT count(*) FROM jobs WHERE batch_id = %s", [batch_uuid(batch)]).fetchone() == (
        0,
    )


def test_a_format_that_does_not_exist_is_refused(customer: Customer) -> None:
    batch_id = customer.create_batch(b"text\na\n")["id"]
    customer.ended_batch(batch_id)
    for form in ("xml", "", "CSV", "\0"):
        error = refusal(customer.get(f"/v1/batches/{batch_id}/results", format=form), 400)
        assert error["param"] == "format"
        assert "'csv' or 'jsonl'" in error["message"]


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        ("rows.csv", "attachment; filename=rows-results.csv"),
        ("../../etc/passwd", "attachment; filename=passwd-results.csv"),
        ('a"b;c.csv', 'attachment; filename="a\\"b;c-results.csv"'),
        ("Käse.csv", "attachment; filename=K_se-results.csv; filename*=UTF-8''K%C3%A4se-results.csv"),
        ("評価.csv", "attachment; filename=__-results.csv; filename*=UTF-8''%E8%A9%95%E4%BE%A1-results.csv"),
        ("x" * 300 + ".csv", f"attachment; filename={'x' * 251}-results.csv"),
        ("..", "attachment; filename=..-results.csv"),
    ],
)
def test_a_download_is_named_after_the_upload_whatever_that_was_called(
    customer: Customer, filename: str, disposition: str
) -> None:
    batch = customer.ended_batch(answer(customer.upload(b"text\na\n", filename=filename))["id"])
    download = customer.get(f"/v1/batches/{batch['id']}/results", format="csv")
    assert download.status_code == 200
    assert download.headers["content-disposition"] == disposition


def test_the_pages_of_the_list_hold_every_batch_once_newest_first(new_customer: NewCustomer) -> None:
    customer = new_customer()
    ids = [customer.create_batch(b"text\n", model="sim-400")["id"] for _ in range(5)]
    customer.submit({"model": "sim-400", "prompt": "Not a batch"})
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = answer(customer.get("/v1/batches", limit=2, **after))
        seen += [batch["id"] for batch in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert seen == sorted(ids, reverse=True)
    assert refusal(customer.get("/v1/batches", after="batch_x"), 400)["param"] == "after"
    assert refusal(customer.get("/v1/batches", limit="x"), 400)["param"] == "limit"
