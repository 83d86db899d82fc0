"""POST /v1/batches with what is no CSV of prompts: refused at once, or failed by ingest with every line named."""

import codecs
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psycopg
import pytest

from local.stack import Stack
from tests.conftest import MAX_UPLOAD_BYTES, NewCustomer
from tests.customer import Customer, answer, batch_uuid, refusal

GOOD = b"text,more\nhello,there\n"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89" * 20
ZIP = b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00" + bytes(range(256)) * 8


@pytest.fixture(scope="module")
def refused(new_customer: NewCustomer) -> Iterator[Customer]:
    """A customer of whom, by the end, nothing was accepted."""
    customer = new_customer()
    yield customer
    assert answer(customer.get("/v1/batches"))["data"] == []


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"model": ""}, "model", "empty"),
        ({"model": "m" * 201}, "model", "200"),
        ({"model": "a\0b"}, "model", "NUL"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": " \n"}, "prompt", "empty"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({"prompt": "About {{txet}}"}, "prompt", "'text', 'more'"),
        ({"prompt": "About {{TEXT}}"}, "prompt", "'text', 'more'"),
        ({"prompt": "About {{}}"}, "prompt", "'text', 'more'"),
        ({"prompt": "About {{text"}, "prompt", "does not close"),
        ({"prompt": "About {{text}} and {{te{{xt}}"}, "prompt", "does not close"),
        ({"system": "You know {{who}}"}, "system", "'text', 'more'"),
        ({"system": "a\0b"}, "system", "NUL"),
        ({"max_tokens": "many"}, "max_tokens", "integer"),
        ({"max_tokens": "0"}, "max_tokens", "1"),
        ({"max_tokens": "1.5"}, "max_tokens", "integer"),
        ({"max_tokens": ""}, "max_tokens", "integer"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"temperature": "3"}, "temperature", "2"),
        ({"temperature": "NaN"}, "temperature", "number"),
        ({"response_format": "json_object"}, "response_format", "dictionary"),
        ({"response_format": "[1]"}, "response_format", "dictionary"),
        ({"response_format": '{"type": "a\\u0000b"}'}, "response_format", "NUL"),
        ({"response_format": '{"type": {"x": ["\\ud800"]}}'}, "response_format", "surrogate"),
        ({"response_format": '{"a\\u0000b": 1}'}, "response_format", "NUL"),
        ({"response_format": '{"a":' * 101 + "1" + "}" * 101}, "response_format", "nested"),
        ({"response_format": '{"type": 1e999}'}, "response_format", "dictionary"),
        ({"metadata": "order 17"}, "metadata", "dictionary"),
        ({"metadata": '{"order": 17}'}, "metadata.order", "string"),
        ({"metadata": '{"order": "a\\u0000b"}'}, "metadata.order", "NUL"),
        ({"temprature": "1"}, "temprature", "spelling"),
        ({"top_p": "1"}, "top_p", "no field"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_field_that_is_wrong_is_named(refused: Customer, fields: dict[str, str], param: str, says: str) -> None:
    error = refusal(refused.upload(GOOD, **fields), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param in error["message"]
    assert says in error["message"]


@pytest.mark.parametrize("missing", ["model", "prompt"])
def test_a_field_that_is_missing_is_named(refused: Customer, missing: str) -> None:
    fields = {"model": "sim", "prompt": "About {{text}}"}
    del fields[missing]
    response = refused.http.post("/v1/batches", data=fields, files={"file": ("rows.csv", GOOD)})
    error = refusal(response, 400)
    assert (error["param"], error["code"]) == (missing, "missing")


Part = tuple[str, tuple[str | None, bytes] | tuple[str | None, bytes, str]]
MODEL: Part = ("model", (None, b"sim"))
PROMPT: Part = ("prompt", (None, b"About {{text}}"))
FILE: Part = ("file", ("rows.csv", GOOD, "text/csv"))


@pytest.mark.parametrize(
    ("parts", "param", "says"),
    [
        ([MODEL, PROMPT], "file", "one file"),
        ([MODEL, PROMPT, FILE, FILE], "file", "one file"),
        ([MODEL, PROMPT, ("file", (None, GOOD))], "file", "one file"),
        ([MODEL, PROMPT, FILE, ("other", ("rows.csv", GOOD))], "other", "'other'"),
        ([MODEL, PROMPT, ("csv", ("rows.csv", GOOD))], "csv", "'csv'"),
        ([MODEL, ("prompt", ("prompt.txt", b"About {{text}}")), FILE], "prompt", "'prompt'"),
        ([MODEL, MODEL, PROMPT, FILE], "model", "2 times"),
        ([MODEL, PROMPT, PROMPT, PROMPT, FILE], "prompt", "3 times"),
    ],
    ids=range(8),
)
def test_a_form_of_other_parts_is_refused(refused: Customer, parts: list[Part], param: str, says: str) -> None:
    error = refusal(refused.http.post("/v1/batches", files=parts), 400)
    assert error["param"] == param
    assert says in error["message"]


BOUNDARY = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/json", b'{"model": "sim"}'),
        ("application/x-www-form-urlencoded", b"model=sim&prompt=Hi"),
        ("text/csv", GOOD),
        ("", GOOD),
        ("multipart/mixed; boundary=b", b"--b--\r\n"),
        ("multipart/form-data", b"--b--\r\n"),
        (BOUNDARY, b""),
        (BOUNDARY, b"nothing of the kind"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\ntext\n'),
        (BOUNDARY, b"--b\r\n\r\ntext\r\n--b--\r\n"),
        (BOUNDARY, b"--b\r\nContent-Disposition: form-data\r\n\r\ntext\r\n--b--\r\n"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="\xff"; filename="\xfe"\r\n\r\n\xff\r\n--b--\r\n'),
        ("multipart/form-data; boundary=" + "b" * 300, b"--" + b"b" * 300 + b"--\r\n"),
        ("multipart/form-data; boundary=\xff", b"--\xff--\r\n"),
    ],
    ids=range(14),
)
def test_what_is_no_whole_multipart_form_is_refused(refused: Customer, content_type: str, content: bytes) -> None:
    headers = [(b"Content-Type", content_type.encode("latin-1"))]
    refusal(refused.http.post("/v1/batches", content=content, headers=headers), 400)


def test_a_form_of_too_many_parts_or_too_large_a_field_is_refused(refused: Customer) -> None:
    many = [(f"field {number}", (None, b"x")) for number in range(2_000)]
    refusal(refused.http.post("/v1/batches", files=[MODEL, PROMPT, FILE, *many]), 413)
    large = ("system", (None, b"x" * (4 * 2**20 + 1)))
    refusal(refused.http.post("/v1/batches", files=[MODEL, PROMPT, FILE, large]), 413)


def test_an_upload_over_the_limit_is_refused(stack: Stack, refused: Customer) -> None:
    # With a connection of its own: the server closes it over what it does not read.
    with Customer(stack.base_url, refused.key) as sender:
        response: httpx2.Response = sender.upload(b"text\n" + b"x" * MAX_UPLOAD_BYTES)
    assert refusal(response, 413)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "empty_file", "empty"),
        (b"\n\n \n", "empty_file", "empty"),
        (codecs.BOM_UTF8, "empty_file", "empty"),
        (codecs.BOM_UTF16_LE, "empty_file", "empty"),
        (PNG, "not_text", "PNG"),
        (ZIP, "not_text", "Excel"),
        (b"%PDF-1.7\n" + bytes(range(256)), "not_text", "PDF"),
        (bytes(1_000), "nul_byte", "line 1"),
        (b"te\0xt,more\nhello,there\n", "nul_byte", "line 1"),
        (b'"text,more\nhello,there\n', "misplaced_quote", "header"),
        (b'"te"xt,more\nhello,there\n', "misplaced_quote", "header"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_file_that_is_empty_or_no_text_is_refused_saying_what_it_is(
    refused: Customer, content: bytes, code: str, says: str
) -> None:
    error = refusal(refused.upload(content), 400)
    assert (error["param"], error["code"]) == ("file", code)
    assert says in error["message"]


LONG_ID = b"i" * 513
BAD_ROWS: dict[str, tuple[bytes, list[tuple[str, int]]]] = {
    "too few cells": (b"text,more\na,b\nc\nd,e\n", [("ragged_row", 3)]),
    "too many cells": (b"text,more\na,b\nc,d,e\n", [("ragged_row", 3)]),
    "several ragged rows": (b"text,more\na\nb,c\nd,e,f\n\n,,\n", [("ragged_row", line) for line in (2, 4, 6)]),
    "ragged after a quoted newline": (b'text,more\n"a\nb",c\nd\n', [("ragged_row", 4)]),
    "a NUL byte": (b"text,more\na,b\nc,\0\nd,e\n", [("nul_byte", 3)]),
    "NUL bytes and ragged rows": (b"text,more\na\0,b\nc\n", [("nul_byte", 2), ("ragged_row", 3)]),
    "a quote never closed": (b'text,more\na,b\n"c,d\ne,f\n', [("unclosed_quote", 3)]),
    "text behind a quote": (b'text,more\na,b\n"c"d,e\nf,g\n', [("misplaced_quote", 3)]),
    "bytes that are no text": ("text,more\né,è\nû,ô\n".encode() * 50 + b"\xff\xfe,x\n", [("undecodable_bytes", 151)]),
    "a header alone": (b"text,more\n", [("empty_file", 2)]),
    "a header and blank lines": (b"text,more\n\n\n", [("empty_file", 4)]),
    "a repeated custom_id": (
        b"text,custom_id\na,1\nb,2\nc,1\nd,2\ne,1\n",
        [("duplicate_custom_id", 4), ("duplicate_custom_id", 5), ("duplicate_custom_id", 6)],
    ),
    "an empty custom_id": (b"text,custom_id\na,1\nb,\nc, \n", [("missing_custom_id", 3), ("missing_custom_id", 4)]),
    "a custom_id too long": (b"custom_id,text\n" + LONG_ID + b",a\n", [("invalid_custom_id", 2)]),
}


@pytest.fixture(scope="module")
def bad_batches(stack: Stack, new_customer: NewCustomer) -> dict[str, dict[str, Any]]:
    """Each of BAD_ROWS as the batch that it became; all are ingested while the first is waited for."""
    customer = new_customer()
    uploaded = {name: customer.create_batch(content)["id"] for name, (content, _) in BAD_ROWS.items()}
    return {name: {"customer": customer} | customer.ended_batch(id_) for name, id_ in uploaded.items()}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_cannot_be_used_fail_the_batch_and_each_is_named_by_its_line(
    bad_batches: dict[str, dict[str, Any]], stack_database: psycopg.Connection, name: str
) -> None:
    batch = bad_batches[name]
    assert batch["status"] == "failed"
    assert batch["failed_at"] is not None
    found = batch["errors"]["data"]
    assert [(error["code"], error["line"]) for error in found] == BAD_ROWS[name][1]
    assert batch["errors"]["total"] == len(found)
    for error in found:
        assert set(error) == {"code", "line", "message", "param"}
        assert error["code"] == "empty_file" or f"line {error['line']} " in error["message"]
    assert batch["counts"]["total"] == 0
    for table in ("jobs", "results", "claims"):
        query = f"SELECT count(*) FROM {table} WHERE batch_id = %s"
        assert stack_database.execute(query, [batch_uuid(batch)]).fetchone() == (0,)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_batch_that_failed_has_no_rows_to_download(bad_batches: dict[str, dict[str, Any]], form: str) -> None:
    for name, batch in bad_batches.items():
        customer: Customer = batch["customer"]
        response = customer.get(f"/v1/batches/{batch['id']}/results", format=form)
        assert response.status_code == 200, name
        assert len(response.text.splitlines()) == (1 if form == "csv" else 0), name


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize(("name", "value"), [("status", "failed"), ("custom_id", "a"), ("after", "x"), ("limit", "1")])
def test_a_download_of_every_row_takes_nothing_of_pages(
    bad_batches: dict[str, dict[str, Any]], form: str, name: str, value: str
) -> None:
    batch = next(iter(bad_batches.values()))
    refused = batch["customer"].get(f"/v1/batches/{batch['id']}/results", format=form, **{name: value})
    assert refusal(refused, 400)["param"] == name


def test_a_row_of_too_many_characters_is_named_and_ends_the_reading(customer: Customer) -> None:
    content = b"text,more\na,b\n" + b'"' + b"x" * (4 * 2**20) + b'",c\nd\n'
    batch = customer.ended_batch(customer.create_batch(content)["id"])
    assert batch["status"] == "failed"
    assert [(error["code"], error["line"]) for error in batch["errors"]["data"]] == [("row_too_long", 3)]


def test_all_errors_are_counted_and_the_first_thousand_shown(customer: Customer) -> None:
    batch = customer.ended_batch(customer.create_batch(b"text,more\n" + b"ragged\n" * 1_500)["id"])
    assert batch["errors"]["total"] == 1_500
    assert [error["line"] for error in batch["errors"]["data"]] == list(range(2, 1_002))


def test_a_plan_takes_no_batch_of_more_rows_than_it_allows(new_customer: NewCustomer) -> None:
    customer = new_customer("free")
    batch = customer.ended_batch(customer.create_batch(b"text\n" + b"x\n" * 10_001)["id"])
    assert batch["status"] == "failed"
    assert [error["code"] for error in batch["errors"]["data"]] == ["batch_too_large"]
    assert "10,001 rows; the plan free allows 10,000" in batch["errors"]["data"][0]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/results"), ("GET", "/results?format=csv"), ("POST", "/cancel")],
)
def test_another_accounts_batch_looks_like_an_unknown_one(
    customer: Customer, new_customer: NewCustomer, method: str, path: str
) -> None:
    theirs = new_customer().create_batch(b"text\nx\n", model="sim-400")["id"]
    unknown = "batch_" + "0" * 32
    messages = [
        refusal(customer.http.request(method, f"/v1/batches/{id_}{path}"), 404)["message"].replace(id_, "ID")
        for id_ in (theirs, unknown, theirs.replace("batch_", "job_"), "batch_1")
    ]
    assert messages[0] == messages[1] == "There is no batch 'ID'."


def test_a_single_job_is_no_batch_and_a_batch_no_single_job(customer: Customer) -> None:
    job = customer.submit({"model": "sim-400", "prompt": "Hi"})["id"]
    refusal(customer.get(f"/v1/batches/{job.replace('job_', 'batch_')}"), 404)
    batch = customer.create_batch(b"text\nx\n", model="sim-400")["id"]
    row = batch.replace("batch_", "job_")
    assert customer.ended_batch(batch)["counts"]["failed"] == 1
    assert customer.job(f"{row}_0")["status"] == "failed"
    refusal(customer.get(f"/v1/jobs/{row}_1"), 404)
    assert "cancel the batch" in refusal(customer.post(f"/v1/jobs/{row}_0/cancel"), 409)["message"]


def test_uploads_at_the_same_time_do_not_mix(new_customer: NewCustomer) -> None:
    customer = new_customer()
    contents = [f"text,n\nrow of {number},{number}\n".encode() for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        batches = list(threads.map(lambda content: customer.create_batch(content), contents))
    for number, batch in enumerate(batches):
        customer.ended_batch(batch["id"])
        _, rows = customer.results(batch["id"])
        assert [(row["text"], row["n"]) for row in rows] == [(f"row of {number}", str(number))]
        assert f"row of {number}" in rows[0]["output"]
    assert json.dumps(answer(customer.get("/v1/batches", limit=100))["data"]).count('"object": "batch"') == 6
