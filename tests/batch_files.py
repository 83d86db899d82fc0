"""Batch files in JSON lines as customers write them, line by line, and what became of them."""

import json
from typing import Any

import psycopg

from tests.customer import Customer, answer, batch_uuid

CHAT = "/v1/chat/completions"


def request(custom_id: Any, body: Any = None, **fields: Any) -> bytes:
    """A line of a batch file; its request is right unless told otherwise."""
    right = {"model": "sim", "messages": [{"role": "user", "content": f"About {custom_id}"}]}
    sent = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": right if body is None else body}
    return json.dumps(sent | fields).encode()


def with_body(custom_id: str = "a", **fields: Any) -> bytes:
    return request(custom_id, {"model": "sim", "messages": [{"role": "user", "content": "Hi"}]} | fields)


def without(field: str, custom_id: str = "a") -> bytes:
    found = json.loads(request(custom_id))
    del found[field]
    return json.dumps(found).encode()


def with_raw(value: bytes) -> bytes:
    """A request with something in its body that is written as it stands."""
    return with_body(x=0).replace(b'"x": 0', b'"x": ' + value)


GOOD = request("good")
LATER = request("later")


def errors_of(batch: dict[str, Any]) -> list[tuple[str, int]]:
    return [(error["code"], error["line"]) for error in batch["errors"]["data"]]


def assert_nothing_was_queued(database: psycopg.Connection, batch: dict[str, Any]) -> None:
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert (batch["output_file_id"], batch["error_file_id"]) == (None, None)
    for table in ("jobs", "claims", "results", "usage_records"):
        assert (
            database.execute(f"SELECT 1 FROM {table} WHERE batch_id = %s LIMIT 1", [batch_uuid(batch)]).fetchall() == []
        )


def content_lines(customer: Customer, file_id: str) -> list[dict[str, Any]]:
    """The lines of an output or error file, which has the size that it says."""
    response = customer.get(f"/v1/files/{file_id}/content")
    assert response.status_code == 200, response.text
    size = answer(customer.get(f"/v1/files/{file_id}"))["bytes"]
    assert int(response.headers["content-length"]) == len(response.content) == size
    return [json.loads(line) for line in response.content.splitlines()]
