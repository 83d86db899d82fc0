"""The simulated provider's answers, its counts and its wire, over HTTP from the real process."""

import asyncio
import base64
import hashlib
import json
import re
import socket
import struct
import subprocess
import sys
from math import isclose, sqrt
from typing import Any

import psutil
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel

from bench.load import Figures, drive
from tests.provider_process import CHAT, KEY, Provider, chat_body, running_provider
from tests.waiting import Stopwatch, wait_for

LEAST_CALLS_PER_CPU_SECOND = 2_500  # Half of what `make bench` demands, for the machine that runs tests beside builds.


# Answers.


def test_the_same_request_has_the_same_text_and_it_echoes_the_prompt(provider: Provider) -> None:
    first, again, other = (
        provider.chat(prompt=prompt).json["choices"][0]["message"]["content"]
        for prompt in ("Describe the blue kettle", "Describe the blue kettle", "Describe the red kettle")
    )
    assert first == again != other
    assert "blue kettle" in first


def test_every_answer_holds_against_the_sdk_models(provider: Provider) -> None:
    asked: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
        CHAT: (ChatCompletion, chat_body()),
        "/v1/responses": (Response, {"model": "sim", "input": "Hello", "instructions": "Be brief"}),
        "/v1/completions": (Completion, {"model": "sim", "prompt": ["One", "Two"]}),
        "/v1/embeddings": (CreateEmbeddingResponse, {"model": "sim", "input": "Hello"}),
    }
    for path, (model, body) in asked.items():
        answer = provider.ask("POST", path, body)
        assert answer.status == 200
        assert answer.headers["x-request-id"].startswith("req_")
        model.model_validate(answer.json)


def test_the_official_client_reads_all_endpoints(provider: Provider) -> None:
    with provider.client() as client:
        chat = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], n=2)
        assert [choice.finish_reason for choice in chat.choices] == ["stop", "stop"]
        assert chat.usage is not None
        assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
        response = client.responses.create(model="sim", input=[{"role": "user", "content": "Name a colour"}])
        assert "Name a colour" in response.output_text
        assert response.usage is not None
        assert response.usage.input_tokens_details.cached_tokens == 0
        assert len(client.completions.create(model="sim", prompt=["One", "Two"], n=2).choices) == 4
        assert "sim" in {model.id for model in client.models.list()}
        assert client.models.retrieve("anything").id == "anything"


def test_streams_join_to_the_whole_answer_and_end_with_usage(provider: Provider) -> None:
    messages: Any = [{"role": "user", "content": "Tell me of the sea"}]
    with provider.client() as client:
        whole = client.chat.completions.create(model="sim", messages=messages)
        with client.chat.completions.create(
            model="sim", messages=messages, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage == whole.usage
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        with client.completions.create(model="sim", prompt="The sea", stream=True) as pieces:
            assert "The sea" in "".join(piece.choices[0].text for piece in pieces)
        with client.responses.stream(model="sim", input="The sea") as events:
            names = [event.type for event in events]
            final = events.get_final_response()
    assert names[0] == "response.created"
    assert names[-1] == "response.completed"
    assert "The sea" in final.output_text


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_answer(provider: Provider, field: str) -> None:
    answer = provider.ask("POST", CHAT, chat_body(prompt="Name all the seas") | {field: 3}).json
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3
    assert len(answer["choices"][0]["message"]["content"]) == 12
    cut = provider.ask("POST", "/v1/responses", {"model": "sim", "input": "Name all seas", "max_output_tokens": 3}).json
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_long_prompts_have_cached_tokens(provider: Provider) -> None:
    usage = provider.chat(prompt="word " * 2_000).json["usage"]
    assert usage["prompt_tokens"] == 2_507
    assert usage["prompt_tokens_details"]["cached_tokens"] == 1_152


def test_a_json_schema_is_answered_with_a_fitting_object(provider: Provider) -> None:
    properties = {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    wanted = {"type": "json_schema", "json_schema": {"name": "review", "strict": True, "schema": schema}}
    answer = provider.chat(response_format=wanted).json["choices"][0]["message"]["content"]
    review = json.loads(answer)
    assert review["mood"] in ("good", "bad")
    assert 1 <= review["stars"] <= 5
    assert isinstance(review["tags"][0], str)
    plain = provider.chat(response_format={"type": "json_object"}).json["choices"][0]["message"]["content"]
    assert set(json.loads(plain)) == {"answer"}


def test_embeddings_are_unit_vectors_of_the_asked_size_in_both_encodings(provider: Provider) -> None:
    with provider.client() as client:
        one, two = (client.embeddings.create(model="sim", input=["a", "b"], dimensions=256).data[i] for i in (0, 1))
    body = {"model": "sim", "input": "a", "dimensions": 256}
    plain = provider.ask("POST", "/v1/embeddings", body).json["data"][0]["embedding"]
    packed = provider.ask("POST", "/v1/embeddings", {**body, "encoding_format": "base64"}).json["data"][0]["embedding"]
    assert one.embedding != two.embedding
    assert len(one.embedding) == 256
    assert isclose(sqrt(sum(number * number for number in plain)), 1, abs_tol=1e-5)
    assert one.embedding == pytest.approx(plain)
    assert list(struct.unpack("<256f", base64.b64decode(packed))) == pytest.approx(plain)
    assert (
        len(provider.ask("POST", "/v1/embeddings", {"model": "sim", "input": "a"}).json["data"][0]["embedding"]) == 1536
    )


# Bad requests.


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x"}]}, None),
        (CHAT, {"model": "sim"}, "messages"),
        (CHAT, {"model": "sim", "messages": []}, "messages"),
        (CHAT, {"model": "sim", "messages": ["x"]}, "messages[0]"),
        (CHAT, chat_body(max_tokens=0), "max_tokens"),
        (CHAT, chat_body(temperature=3), "temperature"),
        (CHAT, chat_body(response_format={"type": "json_schema", "json_schema": {"schema": {
            "type": "array", "minItems": "x"}}}), "response_format"),
        ("/v1/responses", {"model": "sim", "input": 5}, "input"),
        ("/v1/embeddings", {"model": "sim", "input": ""}, "input"),
        ("/v1/embeddings", {"model": "sim", "input": "a", "dimensions": "many"}, "dimensions"),
        ("/v1/completions", {"model": "sim", "prompt": [1, "x"]}, "prompt"),
    ],
)  # fmt: skip
def test_a_bad_field_is_a_400_that_names_it(provider: Provider, path: str, body: Any, param: str | None) -> None:
    answer = provider.ask("POST", path, body)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"sim","messages":"\xff"}', b"[" * 50_000])
def test_a_body_that_is_no_json_object_is_a_400(provider: Provider, body: bytes) -> None:
    assert "could not parse the JSON body" in provider.ask("POST", CHAT, body).error["message"]


def test_keys_addresses_methods_and_reserved_names_are_checked(provider: Provider) -> None:
    assert provider.ask("POST", CHAT, chat_body(), {}).status == 401
    assert provider.ask("GET", "/v1/models", headers={"Authorization": "Basic x"}).status == 401
    assert provider.ask("GET", "/v1/nothing").status == 404
    assert provider.ask("GET", CHAT).status == 405
    assert provider.chat("simple-model").status == 200
    unknown = provider.chat("sim-503-sometimes")
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")


# Counts.


def test_calls_are_counted_by_body_and_by_job(provider: Provider) -> None:
    once, twice = chat_body(metadata={"job": "job_1"}), chat_body(metadata={"job": "job_2"})
    for body in (once, twice, twice):
        provider.ask("POST", CHAT, body)
    digests = [hashlib.sha256(json.dumps(body).encode()).hexdigest() for body in (once, twice)]
    calls = provider.calls()
    assert (calls["calls"], calls["distinct_bodies"], calls["calls_per_body"]) == (3, 2, {"1": 1, "2": 1})
    assert (calls["calls_per_job"], calls["by_status"], calls["max_in_flight"]) == ({"1": 1, "2": 1}, {"200": 3}, 1)
    for digits in (16, 32, 64):
        found = provider.ask("GET", f"/_sim/calls/{digests[1][:digits]}", headers={}).json
        assert (found["calls"], found["successes"], found["in_flight"]) == (2, 2, 0)
    assert provider.ask("GET", "/_sim/jobs/job_2", headers={}).json["calls"] == 2
    repeated = provider.ask("GET", "/_sim/repeated", headers={}).json
    twice_each = {digests[1][:32]: 2}
    assert repeated == {"bodies": twice_each, "successes": twice_each, "jobs": {"job_2": 2}}
    assert provider.ask("GET", f"/_sim/calls/{'0' * 64}", headers={}).json["calls"] == 0
    assert provider.ask("GET", "/_sim/calls/xyz", headers={}).status == 400


def test_usage_of_successes_is_summed(provider: Provider) -> None:
    spent = provider.chat().json["usage"]
    provider.chat("sim-500")
    total = provider.calls()["usage"]
    assert {name: total[name] for name in ("prompt_tokens", "completion_tokens")} == {
        name: spent[name] for name in ("prompt_tokens", "completion_tokens")
    }


def test_past_its_bound_it_says_that_it_no_longer_knows() -> None:
    with running_provider("--max-distinct", "2") as provider:
        for number in range(4):
            assert provider.chat("sim-503-first-1", f"Question {number}").status == (503 if number < 2 else 200)
        calls = provider.calls()
        assert (calls["distinct_bodies"], calls["calls"], calls["untracked"]) == (2, 4, 2)


# The wire and the process.


def test_pipelined_requests_are_answered_in_order(provider: Provider) -> None:
    models = ["sim-latency-100ms", "sim", "sim-503", "sim"]
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as wire:
        bodies = [json.dumps(chat_body(model)).encode() for model in models]
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: "
        requests = [head.encode() + b"%d\r\n\r\n%b" % (len(body), body) for body in bodies]
        requests[-1] = requests[-1].replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
        wire.sendall(b"".join(requests))
        received = b"".join(iter(lambda: wire.recv(65_536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"503", b"200"]


def test_chunked_and_expected_bodies_are_read(provider: Provider) -> None:
    body = json.dumps(chat_body()).encode()
    connection = provider.connect()
    connection.request("POST", CHAT, iter([body[:20], body[20:]]), dict(KEY), encode_chunked=True)
    assert connection.getresponse().read().startswith(b'{"id":"chatcmpl-')
    connection.close()
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as wire:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nExpect: 100-continue\r\n"
        wire.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
        assert wire.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(body)
        assert wire.recv(100).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "head",
    [
        "HEAD /v1/models HTTP/1.1\r\n",
        "GET /v1/models HTTP/1.0\r\n",
        "GET /v1/models HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
    ],
)
def test_a_connection_that_cannot_go_on_is_answered_and_closed(provider: Provider, head: str) -> None:
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as wire:
        wire.sendall(head.encode() + b"Host: x\r\nAuthorization: Bearer x\r\n\r\n")
        assert b"connection: close" in b"".join(iter(lambda: wire.recv(65_536), b""))


def test_what_is_no_http_is_refused_and_the_others_are_served(provider: Provider) -> None:
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as wire:
        wire.sendall(b"hello there\r\n\r\n")
        assert b" 400 " in b"".join(iter(lambda: wire.recv(65_536), b"")).split(b"\r\n")[0]
    assert provider.chat().status == 200


def test_it_stops_at_once_on_sigterm_with_calls_in_flight() -> None:
    with running_provider("--latency", "60") as provider:
        connection = provider.connect()
        connection.request("POST", CHAT, json.dumps(chat_body()), dict(KEY))
        wait_for(provider.calls, lambda calls: calls["in_flight"] == 1)
        stopping = Stopwatch()
    assert stopping.seconds < 5
    connection.close()


def test_a_malformed_flag_stops_the_program_and_is_named() -> None:
    command = [sys.executable, "-m", "local.provider", "--port", "0", "--latency", "soon"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert "latency" in ended.stderr


def test_it_serves_without_uvloop() -> None:
    hidden = "import runpy, sys; sys.modules['uvloop'] = None; runpy.run_module('local.provider', run_name='__main__')"
    with running_provider(command=("-c", hidden)) as provider:
        assert provider.chat("sim-latency-10ms").status == 200
        assert provider.chat("sim", stream=True).content.endswith(b"data: [DONE]\n\n")


def test_it_serves_thousands_of_calls_in_a_second_of_cpu(provider: Provider) -> None:
    provider.set(latency=0.02)
    process = psutil.Process(provider.process.pid)
    number = 6_000
    bodies = (json.dumps(chat_body(prompt=f"Review {at}: " + "it works well. " * 20)).encode() for at in range(number))
    before = process.cpu_times()
    figures: Figures = asyncio.run(drive("127.0.0.1", provider.port, CHAT, bodies, 64, KEY))
    after = process.cpu_times()
    cpu_seconds = after.user + after.system - before.user - before.system
    assert dict(figures.statuses) == {200: number}
    assert number / cpu_seconds > LEAST_CALLS_PER_CPU_SECOND
    calls = provider.calls()
    assert (calls["calls_per_body"], calls["in_flight"]) == ({"1": number}, 0)
    assert 32 < calls["max_in_flight"] <= 64
