"""POST /v1/jobs with what is no job: refused before anything is stored, naming the field."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from common.settings import Settings
from local.stack import Stack
from tests.conftest import NewCustomer
from tests.customer import Customer, answer, refusal

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hi"}]
SHORT = {"model": "sim", "prompt": "Hi"}
FULL = {"endpoint": CHAT, "body": {"model": "sim", "messages": MESSAGES}}
MAX_BODY_BYTES = Settings.model_fields["max_body_bytes"].get_default()


@pytest.fixture(scope="module")
def refused(new_customer: NewCustomer) -> Iterator[Customer]:
    """A customer of whom, by the end, nothing was accepted."""
    customer = new_customer()
    yield customer
    assert answer(customer.get("/v1/jobs"))["data"] == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"model=sim&prompt=Hi",
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"model": "sim", "prompt": "Hi"}',
        b"{'model': 'sim', 'prompt': 'Hi'}",
        b'{"model": "sim", "prompt": "Hi",}',
        b'{"model": "sim", "prompt": "a\nb"}',
        b'{"model": "sim", "prompt": "Hi", "temperature": NaN}',
        b'{"model": "sim", "prompt": "Hi", "temperature": -Infinity}',
        b'{"model": "sim", "prompt": "Hi", "temperature": -1e999}',
        b'{"endpoint": "/v1/completions", "body": {"model": "sim", "prompt": "Hi", "seed": 1e999}}',
        b'{"model": "sim", "prompt": "Hi", "seed": ' + b"9" * 5_000 + b"}",
        b'{"model": "sim", "prompt": "Hi"} {}',
        b"[" * 100_000 + b"]" * 100_000,
        b"null",
        b"[]",
        b'"Hi"',
        b"17",
    ],
    ids=lambda content: repr(content[:60]),
)
def test_a_body_that_is_no_json_object_is_refused(refused: Customer, content: bytes) -> None:
    error = refusal(refused.http.post("/v1/jobs", content=content), 400)
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "invalid_json"
    assert "JSON" in error["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": " \t"}, "model"),
        ({"model": "m" * 201}, "model"),
        ({"model": "a\0b"}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["Hi"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\u00a0"}, "prompt"),
        ({"system": 5}, "system"),
        ({"system": ["Be brief."]}, "system"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 5.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        # More than the plan allows.
        ({"max_tokens": 9_000_000}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"seed": "1"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop"),
        ({"stop": {"a": "b"}}, "stop"),
        ({"reasoning_effort": 5}, "reasoning_effort"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": [1]}, "response_format"),
        ({"response_format": {"type": "a\0b"}}, "response_format"),
        ({"metadata": "order 17"}, "metadata"),
        ({"metadata": ["order"]}, "metadata"),
        ({"metadata": {"order": 17}}, "metadata.order"),
        ({"metadata": {"order": None}}, "metadata.order"),
        ({"metadata": {"order": {"id": "17"}}}, "metadata.order"),
        ({"metadata": {"order": "a\0b"}}, "metadata.order"),
        ({"metadata": {"order": "v" * 513}}, "metadata.order"),
        ({"metadata": {"": "v"}}, "metadata."),
        ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65),
        ({"metadata": {"a\0b": "v"}}, "metadata.a\0b"),
        ({"metadata": {f"key {number}": "v" for number in range(17)}}, "metadata"),
        ({"modell": "sim"}, "modell"),
        ({"n": 2}, "n"),
        ({"stream": True}, "stream"),
        ({"": 1}, ""),
        ({"a.b": 1}, "a.b"),
        ({"\ud800": 1}, None),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_a_field_of_the_short_form_that_is_wrong_is_named(
    refused: Customer, change: dict[str, Any], param: str | None
) -> None:
    response = refused.http.post("/v1/jobs", content=json.dumps(SHORT | change).encode())
    error = refusal(response, 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param is None or param in error["message"]


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({}, "model"),
        ({"model": "sim"}, "prompt"),
        ({"prompt": "Hi"}, "model"),
        ({"endpoint": CHAT}, "body"),
        ({"body": {"model": "sim", "messages": MESSAGES}}, "endpoint"),
        (FULL | {"endpoint": "/v1/images"}, "endpoint"),
        (FULL | {"endpoint": "v1/chat/completions"}, "endpoint"),
        (FULL | {"endpoint": ""}, "endpoint"),
        (FULL | {"endpoint": None}, "endpoint"),
        (FULL | {"endpoint": [CHAT]}, "endpoint"),
        (FULL | {"body": None}, "body"),
        (FULL | {"body": "{}"}, "body"),
        (FULL | {"body": []}, "body"),
        (FULL | {"bodi": {}}, "bodi"),
        (FULL | {"metadata": {"order": 17}}, "metadata.order"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_a_field_that_is_missing_or_wrong_is_named(refused: Customer, sent: dict[str, Any], param: str) -> None:
    error = refusal(refused.post("/v1/jobs", sent), 400)
    assert error["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize("field", ["prompt", "model", "system", "max_tokens"])
def test_both_forms_mixed_are_refused_naming_both(refused: Customer, field: str) -> None:
    error = refusal(refused.post("/v1/jobs", FULL | {field: "x"}), 400)
    assert error["param"] == field
    assert field in error["message"]
    assert "endpoint" in error["message"]


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        (CHAT, {"messages": MESSAGES}, "body.model"),
        (CHAT, {"model": "", "messages": MESSAGES}, "body.model"),
        (CHAT, {"model": 5, "messages": MESSAGES}, "body.model"),
        (CHAT, {"model": "m" * 201, "messages": MESSAGES}, "body.model"),
        (CHAT, {"model": "a\0b", "messages": MESSAGES}, "body.model"),
        (CHAT, {"model": "sim"}, "body.messages"),
        (CHAT, {"model": "sim", "messages": []}, "body.messages"),
        (CHAT, {"model": "sim", "messages": "Hi"}, "body.messages"),
        (CHAT, {"model": "sim", "prompt": "Hi"}, "body.messages"),
        (CHAT, {"model": "sim", "messages": MESSAGES, "stream": True}, "body.stream"),
        ("/v1/responses", {"model": "sim"}, "body.input"),
        ("/v1/responses", {"model": "sim", "input": " "}, "body.input"),
        ("/v1/responses", {"model": "sim", "input": 5}, "body.input"),
        ("/v1/completions", {"model": "sim", "prompt": ""}, "body.prompt"),
        ("/v1/completions", {"model": "sim", "messages": MESSAGES}, "body.prompt"),
        ("/v1/embeddings", {"model": "sim", "input": []}, "body.input"),
        ("/v1/embeddings", {"model": "sim", "input": None}, "body.input"),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_a_body_that_no_provider_could_answer_is_refused_naming_the_field(
    refused: Customer, endpoint: str, body: dict[str, Any], param: str
) -> None:
    error = refusal(refused.post("/v1/jobs", {"endpoint": endpoint, "body": body}), 400)
    assert error["param"] == param
    assert param.removeprefix("body.") in error["message"]


def body_of(size: int) -> bytes:
    """A job of so many bytes; the provider refuses it at once."""
    envelope = len(json.dumps({"model": "sim-400", "prompt": ""}))
    return json.dumps({"model": "sim-400", "prompt": "x" * (size - envelope)}).encode()


def in_chunks(content: bytes) -> Iterator[bytes]:
    """A body whose length is not told before it is sent."""
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


@pytest.mark.parametrize("sent_as", [bytes, in_chunks])
@pytest.mark.parametrize("bytes_over", [1, 8 * 2**20])
def test_a_body_over_the_limit_is_refused_however_it_is_sent(
    stack: Stack, customer: Customer, sent_as: Callable[[bytes], bytes | Iterator[bytes]], bytes_over: int
) -> None:
    # With a connection of its own: the server closes it over what it does not read.
    with Customer(stack.base_url, customer.key) as sender:
        response = sender.http.post("/v1/jobs", content=sent_as(body_of(MAX_BODY_BYTES + bytes_over)))
    error = refusal(response, 413)
    assert error["type"] == "invalid_request_error"
    assert "4,194,304 bytes" in error["message"]


@pytest.mark.parametrize("sent_as", [bytes, in_chunks])
def test_a_body_of_just_the_limit_is_taken(
    customer: Customer, sent_as: Callable[[bytes], bytes | Iterator[bytes]]
) -> None:
    assert customer.http.post("/v1/jobs", content=sent_as(body_of(MAX_BODY_BYTES))).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1", 404),
        ("POST", "/v1/job", 404),
        ("POST", "/v1/jobs/", 404),
        ("GET", "/v1/jobs/a/b", 404),
        ("PUT", "/v1/jobs", 405),
        ("DELETE", "/v1/jobs", 405),
        ("GET", "/v1/jobs/job_1/cancel", 405),
        ("POST", "/v1/batches/batch_1/results", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_an_address_or_method_that_does_not_exist_is_refused_in_the_same_shape(
    customer: Customer, method: str, path: str, status: int
) -> None:
    response = customer.http.request(method, path)
    refusal(response, status)
    assert ("allow" in response.headers) == (status == 405)


def test_every_answer_has_a_request_id_of_its_own(customer: Customer) -> None:
    responses: list[httpx2.Response] = [
        customer.post("/v1/jobs", SHORT),
        customer.post("/v1/jobs", {}),
        customer.get("/v1/jobs"),
        customer.get("/v1/nothing"),
        customer.get("/healthz"),
    ]
    ids = {response.headers["x-request-id"] for response in responses}
    assert len(ids) == len(responses)
