"""Batch files with bad lines: every one is named, and either nothing of the file runs or the bad lines fail alone."""

import codecs
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.batch_files import (
    CHAT,
    GOOD,
    LATER,
    assert_nothing_was_queued,
    content_lines,
    errors_of,
    request,
    with_body,
    with_raw,
    without,
)
from tests.conftest import NewCustomer
from tests.customer import OF_A_FILE, Customer, answer, batch_uuid
from tests.databases import one

TOO_LONG = 2**20 + 1


# The bad lines of one file each, beside good ones: what is in the file, and its errors.
BAD_FILES: dict[str, tuple[bytes, list[tuple[str, int]]]] = {
    "nothing": (b"", [("empty_file", 1)]),
    "a line end": (b"\n", [("empty_file", 1)]),
    "blank lines": (b"\r\n \n\t\n", [("empty_file", 1)]),
    "a byte order mark": (codecs.BOM_UTF8, [("empty_file", 1)]),
    "UTF-16": ((GOOD + b"\n" + LATER).decode().encode("utf-16"), [("not_text", 1)]),
    "UTF-32": (GOOD.decode().encode("utf-32"), [("not_text", 1)]),
    "a binary file": (b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 40, [("not_text", 1)]),
    "zeros": (bytes(10_000), [("not_text", 1)]),
    "Latin-1": (GOOD + b"\n" + request("\xe9").replace(rb"\u00e9", b"\xe9"), [("invalid_encoding", 2)]),
    "a surrogate pair in bytes": (GOOD + b"\n" + with_raw(b'"\xed\xa0\x80\xed\xb0\x80"'), [("invalid_encoding", 2)]),
    "a CSV": (b"custom_id,prompt\na,Hi\n", [("invalid_json_line", 1), ("invalid_json_line", 2)]),
    "half a line": (GOOD + b"\n" + LATER[:-1] + b"\n", [("invalid_json_line", 2)]),
    "two requests on a line": (GOOD + b" " + LATER, [("invalid_json_line", 1)]),
    "a JSON array": (b"[\n" + GOOD + b",\n" + LATER + b"\n]", [("invalid_json_line", line) for line in (1, 2, 4)]),
    "lines that are no objects": (b'[]\n"a"\n1\nnull\n', [("invalid_json_line", line) for line in range(1, 5)]),
    "NaN": (with_raw(b"NaN"), [("invalid_json_line", 1)]),
    "an infinity": (with_raw(b"-Infinity"), [("invalid_json_line", 1)]),
    "a number too large": (GOOD + b"\n" + with_raw(b"1e999"), [("invalid_json_line", 2)]),
    "deep nesting": (with_raw(b"[" * 50_000 + b"]" * 50_000), [("invalid_json_line", 1)]),
    "a raw NUL in a later line": (GOOD + b"\n" + LATER.replace(b"later", b"la\0ter"), [("invalid_json_line", 2)]),
    "a line over the limit": (GOOD + b"\n" + with_body(x="x" * TOO_LONG) + b"\n" + LATER, [("line_too_long", 2)]),
    "a last line over the limit": (GOOD + b"\n" + b"x" * TOO_LONG, [("line_too_long", 2)]),
    "no custom_id": (without("custom_id"), [("missing_custom_id", 1)]),
    "custom_id null": (request(None), [("missing_custom_id", 1)]),
    "custom_id empty": (request(""), [("missing_custom_id", 1)]),
    "custom_id blank": (request(" \t"), [("missing_custom_id", 1)]),
    "custom_id a number": (request(7), [("invalid_custom_id", 1)]),
    "custom_id a list": (request(["a"]), [("invalid_custom_id", 1)]),
    "custom_id of 513 characters": (request("\xe9" * 513), [("invalid_custom_id", 1)]),
    "custom_id with NUL": (request("a\0b"), [("invalid_custom_id", 1)]),
    "custom_id with half a pair": (request("a\ud800"), [("invalid_custom_id", 1)]),
    "a repeated custom_id": (
        b"\n".join([GOOD, LATER, b"", GOOD, GOOD, LATER]),
        [("duplicate_custom_id", 4), ("duplicate_custom_id", 5), ("duplicate_custom_id", 6)],
    ),
    "a repeated custom_id, written otherwise": (
        GOOD + b"\n" + GOOD.replace(b'"good"', rb'"g\u006fod"', 1),
        [("duplicate_custom_id", 2)],
    ),
    "a repeat of a bad line's custom_id": (
        request("a", method="GET") + b"\n" + request("a"),
        [("invalid_method", 1), ("duplicate_custom_id", 2)],
    ),
    "no method": (without("method"), [("invalid_method", 1)]),
    "method GET": (request("a", method="GET"), [("invalid_method", 1)]),
    "method in small letters": (request("a", method="post"), [("invalid_method", 1)]),
    "no url": (without("url"), [("url_mismatch", 1)]),
    "another endpoint": (request("a", url="/v1/embeddings"), [("url_mismatch", 1)]),
    "the url with its host": (request("a", url="https://api.openai.com" + CHAT), [("url_mismatch", 1)]),
    "no body": (without("body"), [("invalid_body", 1)]),
    "a body that is text": (request("a", "Hi"), [("invalid_body", 1)]),
    "a body that is a list": (request("a", [1]), [("invalid_body", 1)]),
    "no model": (request("a", {"messages": [1]}), [("missing_model", 1)]),
    "an empty model": (with_body(model=""), [("missing_model", 1)]),
    "a model that is no text": (with_body(model=4), [("missing_model", 1)]),
    "a model's name too long": (with_body(model="m" * 201), [("model_not_found", 1)]),
    "a model with NUL": (with_body(model="si\0m"), [("model_not_found", 1)]),
    "no messages": (request("a", {"model": "sim"}), [("invalid_prompt", 1)]),
    "empty messages": (with_body(messages=[]), [("invalid_prompt", 1)]),
    "messages that are text": (with_body(messages="Hi"), [("invalid_prompt", 1)]),
    "a stream": (with_body(stream=True), [("stream_not_supported", 1)]),
    "several things wrong": (
        b"\n".join([b"{", without("custom_id"), GOOD, b"", with_body("b", stream=True), GOOD, b"]"]),
        [
            ("invalid_json_line", 1),
            ("missing_custom_id", 2),
            ("stream_not_supported", 5),
            ("duplicate_custom_id", 6),
            ("invalid_json_line", 7),
        ],
    ),
}


@pytest.fixture(scope="module")
def bad_batches(new_customer: NewCustomer) -> dict[str, dict[str, Any]]:
    """Each of BAD_FILES as the batch that it became."""
    customer = new_customer()
    created = {name: customer.run_file(customer.file_id(content)) for name, (content, _) in BAD_FILES.items()}
    assert {batch["status"] for batch in created.values()} <= {"validating", "failed"}
    return {name: customer.ended_batch(batch["id"]) for name, batch in created.items()}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_with_bad_lines_fails_and_each_is_named_by_its_line_and_nothing_is_queued(
    bad_batches: dict[str, dict[str, Any]], stack_database: psycopg.Connection, name: str
) -> None:
    batch = bad_batches[name]
    expected = BAD_FILES[name][1]
    assert batch["status"] == "failed"
    assert errors_of(batch) == expected
    assert batch["errors"]["object"] == "list"
    assert batch["errors"]["total"] == len(expected)
    assert batch["errors"]["counts"] == Counter(code for code, _ in expected)
    for error in batch["errors"]["data"]:
        assert set(error) == {"code", "line", "message", "param"}
        assert error["code"] in ("empty_file", "not_text") or error["message"].startswith(f"line {error['line']}")
        assert len(error["message"]) < 1_000
    assert_nothing_was_queued(stack_database, batch)


PROMPTS = {
    "/v1/responses": ("input", ["", " \n", [], 7, None]),
    "/v1/embeddings": ("input", ["", " \n", [], 7, None]),
    "/v1/completions": ("prompt", ["", " \n", [], 7, None]),
}


@pytest.mark.parametrize("endpoint", PROMPTS)
def test_every_endpoint_asks_for_its_own_prompt(customer: Customer, endpoint: str) -> None:
    field, wrong = PROMPTS[endpoint]
    bodies: list[dict[str, Any]] = [{"model": "sim", field: value} for value in wrong]
    bodies += [{"model": "sim"}, {"model": "sim", "messages": [1]}]
    content = b"\n".join(request(f"{number}", body, url=endpoint) for number, body in enumerate(bodies))
    batch = customer.ended_batch(customer.run_file(customer.file_id(content), endpoint=endpoint)["id"])
    assert errors_of(batch) == [("invalid_prompt", line) for line in range(1, len(bodies) + 1)]
    assert {error["param"] for error in batch["errors"]["data"]} == {f"body.{field}"}


LINES = 100_000
BAD_LINES = 5_000
# What is wrong with every twentieth line, by turns; the id is the line's own, or that of the line above it.
KINDS: dict[str, Callable[[int], bytes]] = {
    "invalid_json_line": lambda line: short(str(line))[:-2],
    "duplicate_custom_id": lambda line: short(str(line - 1)),
    "missing_custom_id": lambda line: short(""),
    "url_mismatch": lambda line: short(str(line)).replace(b"/v1/completions", b"/v1/embeddings"),
    "invalid_body": lambda line: short(str(line)).replace(b'{"model":"sim","prompt":"a"}', b'["sim","a"]'),
    "stream_not_supported": lambda line: short(str(line)).replace(b'"a"', b'"a","stream":true'),
    "invalid_custom_id": lambda line: short("i" * 513),
    "line_too_long": lambda line: short(str(line)).replace(b'"a"', b'"%b"' % (b"a" * TOO_LONG)),
}
# These lines are large; a few will do.
LONG_LINES = (20, 50_000, 100_000)


def short(custom_id: str) -> bytes:
    return b'{"custom_id":"%b","method":"POST","url":"/v1/completions","body":{"model":"sim","prompt":"a"}}' % (
        custom_id.encode()
    )


def large_file() -> tuple[bytes, list[tuple[str, int]]]:
    """A file with 5,000 bad lines among 100,000, and what is wrong with each."""
    turns = [kind for kind in KINDS if kind != "line_too_long"]
    lines: list[bytes] = []
    bad: list[tuple[str, int]] = []
    for line in range(1, LINES + 1):
        if line % (LINES // BAD_LINES):
            lines.append(short(str(line)))
        else:
            kind = "line_too_long" if line in LONG_LINES else turns[len(bad) % len(turns)]
            lines.append(KINDS[kind](line))
            bad.append((kind, line))
    return b"\n".join(lines), bad


def test_of_five_thousand_bad_lines_all_are_counted_and_the_first_thousand_named_and_nothing_is_queued(
    customer: Customer, stack_database: psycopg.Connection
) -> None:
    content, bad = large_file()
    assert len(bad) == BAD_LINES
    created = customer.run_file(customer.file_id(content), endpoint="/v1/completions")
    batch = customer.ended_batch(created["id"], seconds=120)
    assert batch["status"] == "failed"
    assert batch["errors"]["total"] == BAD_LINES
    assert batch["errors"]["counts"] == Counter(kind for kind, _ in bad)
    assert len(batch["errors"]["counts"]) == len(KINDS)
    assert errors_of(batch) == bad[:1_000]
    assert_nothing_was_queued(stack_database, batch)


MIXED = [
    (b"{", "", "invalid_json_line"),
    (GOOD, "good", None),
    (without("custom_id"), "", "missing_custom_id"),
    (GOOD, "good", "duplicate_custom_id"),
    (request("i" * 513), "", "invalid_custom_id"),
    (request("m", method="GET"), "m", "invalid_method"),
    (request("u", url="/v1/embeddings"), "u", "url_mismatch"),
    (request("b", []), "b", "invalid_body"),
    (with_body("mm", model=""), "mm", "missing_model"),
    (with_body("mn", model="m" * 201), "mn", "model_not_found"),
    (with_body("p", messages=[]), "p", "invalid_prompt"),
    (LATER, "later", None),
    (with_body("s", stream=True), "s", "stream_not_supported"),
    (b'"\xff"', "", "invalid_encoding"),
    (with_body(x="x" * TOO_LONG), "", "line_too_long"),
    (request("m"), "m", "duplicate_custom_id"),
    (request("last"), "last", None),
]


def test_asked_to_skip_bad_lines_they_fail_alone_in_the_error_file_and_the_good_ones_complete(
    customer: Customer, stack_database: psycopg.Connection
) -> None:
    file_id = customer.file_id(b"\n".join(line for line, _, _ in MIXED))
    batch = customer.ended_batch(customer.run_file(file_id, on_error="skip")["id"])
    good = [custom_id for _, custom_id, code in MIXED if code is None]
    bad = [(custom_id, code) for _, custom_id, code in MIXED if code is not None]
    assert (batch["status"], batch["errors"]) == ("completed", None)
    assert batch["request_counts"] == {"total": len(MIXED), "completed": len(good), "failed": len(bad)}
    outputs = content_lines(customer, batch["output_file_id"])
    assert [line["custom_id"] for line in outputs] == good
    for line in outputs:
        assert f"About {line['custom_id']}" in json.dumps(line["response"]["body"])
    failures = content_lines(customer, batch["error_file_id"])
    assert [(line["custom_id"], line["error"]["code"]) for line in failures] == bad
    assert all(line["response"] is None and line["error"]["message"] for line in failures)
    receipts = one(stack_database, "SELECT count(*) FROM usage_records WHERE batch_id = %s", batch_uuid(batch))
    assert receipts == (len(good),)


def test_a_file_of_bad_lines_alone_ends_by_itself_when_they_are_skipped(customer: Customer) -> None:
    batch = customer.ended_batch(customer.run_file(customer.file_id(b"{\n}\n[]\n"), on_error="skip")["id"])
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 3, "completed": 0, "failed": 3}
    assert batch["output_file_id"] is None
    assert len(content_lines(customer, batch["error_file_id"])) == 3


def test_a_file_that_is_no_batch_file_at_all_fails_also_when_bad_lines_are_skipped(customer: Customer) -> None:
    for content, code in ((b"", "empty_file"), (bytes(100), "not_text")):
        batch = customer.ended_batch(customer.run_file(customer.file_id(content), on_error="skip")["id"])
        assert (batch["status"], errors_of(batch)) == ("failed", [(code, 1)])


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_plan_takes_no_batch_of_more_rows_than_it_allows(
    new_customer: NewCustomer, stack_database: psycopg.Connection, on_error: str
) -> None:
    customer = new_customer("free")
    most = b"".join(short(str(number)) + b"\n" for number in range(10_000))
    wanted = OF_A_FILE | {"endpoint": "/v1/completions", "on_error": on_error}
    estimate = customer.post("/v1/batches/estimate", wanted | {"input_file_id": customer.file_id(most)})
    assert answer(estimate)["valid"] is True
    file_id = customer.file_id(b"\n" + most + short("one more"))
    batch = customer.ended_batch(customer.run_file(file_id, endpoint="/v1/completions", on_error=on_error)["id"])
    assert (batch["status"], errors_of(batch)) == ("failed", [("batch_too_large", 10_002)])
    assert "10,001 rows; the plan free allows 10,000" in batch["errors"]["data"][0]["message"]
    assert_nothing_was_queued(stack_database, batch)
