"""What the tests of the clients submit, and how they read what comes back."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from openai import OpenAI
from openai.types import Batch

from tests.waiting import wait_for

Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings"]

CHAT: Endpoint = "/v1/chat/completions"
ENDED = frozenset({"completed", "failed", "cancelled", "expired"})
# Longer than any test waits: what calls it is stopped, not finished.
ENDLESS = "sim-latency-60s"


def body(endpoint: Endpoint, number: int, model: str) -> dict[str, Any]:
    """A request's own JSON."""
    question = f"What is {number} and one?"
    match endpoint:
        case "/v1/chat/completions":
            return {"model": model, "messages": [{"role": "user", "content": question}]}
        case "/v1/completions":
            return {"model": model, "prompt": question}
        case "/v1/responses" | "/v1/embeddings":
            return {"model": model, "input": question}


def request(number: int, model: str = "sim", endpoint: Endpoint = CHAT) -> dict[str, Any]:
    """A line of an input file, as JSON."""
    custom_id = f"row-{number}"
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body(endpoint, number, model)}


def requests(models: Sequence[str], endpoint: Endpoint = CHAT) -> list[dict[str, Any]]:
    """A request for each model, numbered from 0."""
    return [request(number, model, endpoint) for number, model in enumerate(models)]


def jsonl(lines: Sequence[object]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def upload(sdk: OpenAI, content: bytes) -> str:
    """The id of an uploaded input file."""
    return sdk.files.create(file=("input.jsonl", content), purpose="batch").id


def submit(sdk: OpenAI, models: Sequence[str], endpoint: Endpoint = CHAT) -> Batch:
    """A batch with one request for each model."""
    file_id = upload(sdk, jsonl(requests(models, endpoint)))
    return sdk.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h")


def ended(sdk: OpenAI, batch: Batch, seconds: float = 60) -> Batch:
    """The batch once it has ended."""
    return wait_for(lambda: sdk.batches.retrieve(batch.id), lambda found: found.status in ENDED, seconds)


def with_completed(sdk: OpenAI, batch: Batch, rows: int) -> Batch:
    """The batch once so many of its requests are completed."""

    def done(found: Batch) -> bool:
        assert found.status not in ENDED, found
        return found.request_counts is not None and found.request_counts.completed == rows

    return wait_for(lambda: sdk.batches.retrieve(batch.id), done)


def lines(sdk: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of an output file, each with exactly the four fields that a line has."""
    assert file_id is not None
    found: list[dict[str, Any]] = [json.loads(line) for line in sdk.files.content(file_id).text.splitlines()]
    for line in found:
        assert set(line) == {"id", "custom_id", "response", "error"}
        assert line["id"].startswith("batch_req_")
        if line["response"] is not None:
            assert set(line["response"]) == {"status_code", "request_id", "body"}
    return found


def custom_ids(found: Sequence[dict[str, Any]]) -> list[str]:
    return [line["custom_id"] for line in found]
