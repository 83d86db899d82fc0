"""The input of a batch: files that look odd and are right, and whose file it may be and when."""

import codecs
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from local.stack import Stack
from tests.batch_files import (
    GOOD,
    LATER,
    assert_nothing_was_queued,
    content_lines,
    errors_of,
    request,
    with_body,
    with_raw,
)
from tests.conftest import NewCustomer
from tests.customer import OF_A_FILE, Customer, answer, batch_uuid, refusal
from tests.databases import one
from tests.sleeping import workers_asleep

HARMLESS: dict[str, tuple[bytes, int]] = {
    "no line end at the end": (GOOD + b"\n" + LATER, 2),
    "a byte order mark": (codecs.BOM_UTF8 + GOOD + b"\n" + LATER + b"\n", 2),
    "Windows line ends": (GOOD + b"\r\n" + LATER + b"\r\n", 2),
    "blank lines": (b"\n \r\n" + GOOD + b"\n\n\t\n" + LATER + b"\n\n", 2),
    "a line as long as may be": (with_body(x="x" * (2**20 - len(with_body(x="")))) + b"\n" + GOOD, 2),
    "custom_ids of 512 characters": (request("\xe9" * 512) + b"\n" + request("\U0001f600" * 512), 2),
    "custom_ids that differ in case and blanks": (b"\n".join(map(request, ["a", "A", " a", "a ", "a\t", "\xe4"])), 6),
    "NUL in a prompt": (with_body(messages=[{"role": "user", "content": "a\0b"}]), 1),
    "nesting that is not too deep": (with_raw(b"[" * 100 + b"]" * 100), 1),
    "stream false": (with_body("a", stream=False) + b"\n" + with_body("b", stream=None), 2),
    "fields that nobody reads": (request("a", priority=1), 1),
}


@pytest.fixture(scope="module")
def harmless_batches(new_customer: NewCustomer) -> tuple[Customer, dict[str, str]]:
    customer = new_customer()
    ids = {name: customer.run_file(customer.file_id(content))["id"] for name, (content, _) in HARMLESS.items()}
    return customer, ids


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_odd_but_right_runs(harmless_batches: tuple[Customer, dict[str, str]], name: str) -> None:
    customer, ids = harmless_batches
    batch = customer.ended_batch(ids[name])
    content, rows = HARMLESS[name]
    assert (batch["status"], batch["errors"]) == ("completed", None)
    assert batch["request_counts"] == {"total": rows, "completed": rows, "failed": 0}
    sent = [json.loads(line) for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    lines = content_lines(customer, batch["output_file_id"])
    assert [line["custom_id"] for line in lines] == [line["custom_id"] for line in sent]


def test_what_json_allows_and_the_provider_does_not_is_its_rows_failure_alone(customer: Customer) -> None:
    batch = customer.ended_batch(
        customer.run_file(customer.file_id(with_body("half", x="\ud800") + b"\n" + GOOD))["id"]
    )
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    (failure,) = content_lines(customer, batch["error_file_id"])
    assert (failure["custom_id"], failure["response"]["status_code"], failure["error"]) == ("half", 400, None)


def test_only_an_accounts_own_uploads_can_be_its_input(customer: Customer, new_customer: NewCustomer) -> None:
    own = customer.file_id(GOOD)
    theirs = new_customer().file_id(GOOD)
    deleted = customer.file_id(GOOD)
    answer(customer.http.delete(f"/v1/files/{deleted}"))
    ended = customer.ended_batch(customer.run_file(own)["id"])
    for file_id in (theirs, deleted, "file-" + "0" * 32, "file-1", own.replace("file-", "batch_")):
        refusal(customer.post("/v1/batches", OF_A_FILE | {"input_file_id": file_id}), 404)
    error = refusal(customer.post("/v1/batches", OF_A_FILE | {"input_file_id": ended["output_file_id"]}), 400)
    assert error["param"] == "input_file_id"
    assert "batch_output" in error["message"]


@pytest.mark.parametrize("purpose", ["fine-tune", "batch_output", "", "Batch"])
def test_a_file_for_another_purpose_is_refused(customer: Customer, purpose: str) -> None:
    assert refusal(customer.send_file(GOOD, purpose=purpose), 400)["param"] == "purpose"


def test_two_batches_made_at_once_of_one_file_are_both_right(customer: Customer) -> None:
    rows = 500
    file_id = customer.file_id(b"\n".join(request(f"row {number}") for number in range(rows)))
    with ThreadPoolExecutor(2) as threads:
        created = list(threads.map(lambda _: customer.run_file(file_id), range(2)))
    assert created[0]["id"] != created[1]["id"]
    for batch in [customer.ended_batch(batch["id"]) for batch in created]:
        assert batch["status"] == "completed"
        lines = content_lines(customer, batch["output_file_id"])
        assert [line["custom_id"] for line in lines] == [f"row {number}" for number in range(rows)]
        assert all(line["id"].startswith(f"batch_req_{batch_uuid(batch).hex}_") for line in lines)


def test_an_input_deleted_while_it_waits_to_be_read_is_read_all_the_same(stack: Stack, customer: Customer) -> None:
    file_id = customer.file_id(GOOD + b"\n" + LATER)
    with workers_asleep(stack):
        batch = customer.run_file(file_id)
        answer(customer.http.delete(f"/v1/files/{file_id}"))
        refusal(customer.get(f"/v1/files/{file_id}/content"), 404)
    batch = customer.ended_batch(batch["id"])
    assert batch["status"] == "completed"
    assert [line["custom_id"] for line in content_lines(customer, batch["output_file_id"])] == ["good", "later"]


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_an_input_that_storage_has_lost_fails_its_batch(
    stack: Stack, customer: Customer, stack_database: psycopg.Connection, on_error: str
) -> None:
    file_id = customer.file_id(GOOD)
    with workers_asleep(stack):
        batch = customer.run_file(file_id, on_error=on_error)
        (key,) = one(stack_database, "SELECT storage_key FROM files WHERE id = %s", UUID(file_id.removeprefix("file-")))
        (Path(urlsplit(stack.env["STORAGE_URL"]).path) / str(key)).unlink()
    batch = customer.ended_batch(batch["id"])
    assert (batch["status"], errors_of(batch)) == ("failed", [("input_missing", 1)])
    assert_nothing_was_queued(stack_database, batch)
