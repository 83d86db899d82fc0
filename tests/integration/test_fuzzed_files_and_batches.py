"""Whatever is sent to files, batches and models, the answer is never a 500 and an error always has its one shape."""

import io
from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from common import ids
from tests import work
from tests.exact import file_id
from tests.web_client import WebClient, refused
from tests.work import all_claims
from worker import ingest
from worker.outcomes import record

NASTY_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\u00e4 \U0001f600", "'", '"', "%00", "..", "../../etc/passwd", "-1", "0", "1e9",
    "null", "x" * 5_000, "{}", "[]", "\n", "batch_", "file-", "batch_" + "f" * 32, "file-" + "0" * 32,
    "batch_" + "g" * 32, "batch_" + "F" * 32, "file-" + "\u0661" * 32, "99999999999999999999", "NaN",
    "; DROP TABLE files",
)  # fmt: skip
NASTY_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**40, 1e308, *NASTY_TEXTS, [], [[]], {}, {"": ""}, [None], {"a": {"b": [1]}},
    ["x" * 100] * 100,
)  # fmt: skip
PATHS = (
    ("GET", "/files/{}"), ("GET", "/files/{}/content"), ("DELETE", "/files/{}"), ("GET", "/batches/{}"),
    ("GET", "/batches/{}/results"), ("POST", "/batches/{}/cancel"), ("POST", "/batches/{}/retry"),
    ("GET", "/models/{}"), ("DELETE", "/models/{}"), ("GET", "/jobs/{}"), ("POST", "/jobs/{}/cancel"),
)  # fmt: skip
CREATE = {"endpoint": "/v1/chat/completions", "requests": [work.request(0)]}


def answered(found: TestResponse) -> None:
    """It is an answer, or an error in its one shape."""
    assert found.status_code < 500, found.text
    if found.status_code >= 400:
        refused(found, found.status_code)
    else:
        assert found.data is not None


@pytest.fixture
def ended(web: WebClient, database: psycopg.Connection) -> UUID:
    """A batch that has ended, with both outputs and errors."""
    batch_id = work.requests(web.caller, [work.request(number) for number in range(6)])
    for claim in all_claims():
        record([work.outcome(claim, job.seq, ("succeeded", "failed")[job.seq % 2]) for job in claim.jobs])
    return batch_id


def encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.mark.parametrize("version", ["/v1", ""])
def test_no_id_in_a_path_makes_the_server_fail(web: WebClient, version: str) -> None:
    for (method, path), text in product(PATHS, NASTY_TEXTS):
        found = web.request(method, version + path.format(encoded(text)))
        answered(found)
        if "/" not in text and text not in ("", "..", "estimate"):
            assert found.status_code == 404, (method, path, text)


def test_no_query_makes_the_server_fail(web: WebClient, database: psycopg.Connection, ended: UUID) -> None:
    shown, file = ids.show("batch_", ended), file_id(database, ended, True)
    queries = {
        "/v1/files": ("after", "limit", "order", "purpose", "unknown"),
        "/v1/batches": ("after", "limit", "unknown"),
        f"/v1/batches/{shown}/results": ("after", "limit", "custom_id", "status", "format", "unknown"),
        f"/v1/files/{file}/content": ("offset",),
        "/v1/models": ("after", "limit"),
    }
    for path, names in queries.items():
        for name, text in product(names, NASTY_TEXTS):
            answered(web.request("GET", f"{path}?{name}={encoded(text)}"))


def bodies() -> Iterator[Any]:
    yield from NASTY_VALUES
    fields = (
        "input_file_id", "requests", "endpoint", "completion_window", "on_error", "metadata", "output_expires_after",
        "unknown", "\ud800",
    )  # fmt: skip
    for field, value in product(fields, NASTY_VALUES):
        yield CREATE | {field: value}
    for value in NASTY_VALUES:
        yield CREATE | {"requests": [value]}
        yield CREATE | {"requests": [work.request(0) | {"body": value}]}
        yield CREATE | {"requests": [work.request(0) | {"custom_id": value}]}
        yield CREATE | {"requests": [work.request(0) | {"method": value, "url": value}]}
        yield CREATE | {"requests": [work.request(0) | {"body": {"model": value, "messages": [value], "n": value}}]}
        yield CREATE | {"requests": [work.request(0) | {"body": work.request(0)["body"] | {"max_tokens": value}}]}
        yield CREATE | {"metadata": {"a": value}}
        yield CREATE | {"output_expires_after": {"anchor": "created_at", "seconds": value}}
        yield CREATE | {"output_expires_after": {"anchor": value, "seconds": 3600}}


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/batches/estimate", "/batches/estimate"])
def test_no_json_makes_the_server_fail_and_what_is_accepted_is_ingested(
    web: WebClient, database: psycopg.Connection, path: str
) -> None:
    for body in bodies():
        answered(web.post(path, json=body))
    waiting = database.execute("SELECT id FROM batches WHERE state = 'validating'").fetchall()
    assert bool(waiting) == (path == "/v1/batches")
    for (batch_id,) in waiting:
        ingest.run(batch_id)
    assert database.execute("SELECT count(*) FROM batches WHERE state = 'validating'").fetchall() == [(0,)]


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/batches/estimate", "/v1/files"])
def test_no_form_makes_the_server_fail(web: WebClient, path: str) -> None:
    good = {"purpose": "batch"} if path == "/v1/files" else {"model": "sim", "prompt": "{{text}}"}
    names = (
        "purpose", "expires_after", "expires_after[anchor]", "expires_after[seconds]", "expires_after[x]", "file",
        "model", "prompt", "system", "metadata", "max_tokens", "temperature", "response_format", "\ud83d", "x\0",
    )  # fmt: skip
    contents = (b"", b"text\na\n", b"\0", b"\xff\xfe", b"{}\n", b'"', b"\n" * 1000, b"a," * 5_000)
    for content, filename in product(contents, ("a.csv", "", "\u00e4\u2028.csv", "a\nb", "x" * 1_000)):
        answered(web.post(path, data=good | {"file": (io.BytesIO(content), filename)}))
    for name, text in product(names, NASTY_TEXTS):
        name, text = (value.encode("utf-8", "replace").decode() for value in (name, text))
        answered(web.post(path, data=good | {name: text, "file": (io.BytesIO(b"text\na\n"), "a.csv")}))
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a",
        "text/csv",
        "",
    ):
        for content in (b"", b"--a", b"--a\r\n\r\n--a--", b"--a\r\nContent-Disposition: form-data; name=file\r\n\r\nx"):
            answered(web.post(path, data=content, content_type=kind))
    for kind in ("application/json", "application/json; charset=utf-16"):
        for content in (b"", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000, b'{"a":' * 500 + b"1" + b"}" * 500):
            answered(web.post(path, data=content, content_type=kind))


def test_no_depth_of_nesting_makes_the_server_fail(web: WebClient) -> None:
    for depth in (90, 100, 101, 400, *range(700, 1_000), 5_000):
        deep = b"[" * depth + b"]" * depth
        body = b'{"endpoint": "/v1/chat/completions", "requests": [{"custom_id": "a", "body": %s}]}' % deep
        for path in ("/v1/batches", "/v1/batches/estimate"):
            answered(web.post(path, data=body, content_type="application/json"))


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_makes_an_estimate_fail(web: WebClient, content: bytes) -> None:
    form = {"purpose": "batch", "file": (io.BytesIO(content), "a.jsonl")}
    made = web.post("/v1/files", data=form)
    assert made.status_code == 200
    assert web.get(f"/v1/files/{made.get_json()['id']}/content").data == content
    sent = {"input_file_id": made.get_json()["id"], "endpoint": "/v1/chat/completions"}
    found = web.post("/v1/batches/estimate", json=sent)
    assert found.status_code == 200, found.text
    answered(
        web.post(
            "/v1/batches/estimate", data=form | {"model": "sim", "prompt": "{{a}}", "file": (io.BytesIO(content), "a")}
        )
    )


def test_another_accounts_ids_are_found_nowhere(web: WebClient, database: psycopg.Connection, ended: UUID) -> None:
    other = WebClient()
    shown, row = ids.show("batch_", ended), f"{ids.show('job_', ended)}_0"
    made = web.post("/v1/files", data={"purpose": "batch", "file": (io.BytesIO(b"{}"), "a.jsonl")}).get_json()
    every = [made["id"], file_id(database, ended, True), file_id(database, ended, False)]
    for method, path in PATHS:
        if "models" not in path:
            for found in (shown, row, *every):
                refused(other.request(method, "/v1" + path.format(found)), 404)
    for file in every:
        for path in ("/v1/batches", "/v1/batches/estimate"):
            refused(other.post(path, json={"input_file_id": file, "endpoint": "/v1/responses"}), 404)
        assert other.get("/v1/files", after=file).get_json()["data"] == []
    assert other.get("/v1/batches", after=shown).get_json()["data"] == []
    assert other.get("/v1/files").get_json()["data"] == []
    own = work.requests(other.caller, [work.request(0)])
    foreign = f"batch_req_{ended.hex}_0"
    refused(other.get(f"/v1/batches/{ids.show('batch_', own)}/results", after=foreign), 404)
