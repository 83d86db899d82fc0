"""A line of an output or error file, made from its row."""

import json
from typing import Any
from uuid import UUID

import pytest

from common.output_lines import line

BATCH = UUID(int=17)


def read(**fields: Any) -> dict[str, Any]:
    """The line of a row that succeeded, but for these fields."""
    row: dict[str, Any] = {
        "custom_id": "a", "status_code": 200, "request_id": "req_1", "body": b"{}", "error_code": None,
        "error_message": None,
    }  # fmt: skip
    text = line(BATCH, 3, **(row | fields)).decode()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    found: dict[str, Any] = json.loads(text)
    assert found["id"] == f"batch_req_{BATCH.hex}_3"
    return found


def test_an_answer_is_given_as_it_came() -> None:
    found = read(body=b'{"n": 1.50, "n": 2}')
    assert found["response"] == {"status_code": 200, "request_id": "req_1", "body": {"n": 2}}
    assert found["error"] is None
    assert b'{"n": 1.50, "n": 2}' in line(BATCH, 3, "a", 200, "req_1", b'{"n": 1.50, "n": 2}', None, None)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"error": {}}', {"error": {}}),
        (b"<html>\r\n", "<html>\r\n"),
        (b"\xff", "�"),
        (b"", ""),
        (b"[" * 9_999, "[" * 9_999),
    ],
)
def test_an_http_error_is_a_response_whatever_its_body(body: bytes, shown: object) -> None:
    found = read(status_code=502, body=body, error_code="server_error", error_message="It failed.")
    assert found["response"] == {"status_code": 502, "request_id": "req_1", "body": shown}
    assert found["error"] is None


def test_an_answer_that_not_every_reader_takes_for_json_is_given_as_text() -> None:
    assert read(body=b'{"logprob": NaN}')["response"]["body"] == '{"logprob": NaN}'
    assert read(body=b'{"half": "\\ud83d"}')["response"]["body"] == {"half": "\ud83d"}


@pytest.mark.parametrize("status_code", [None, 200, 204, 302])
def test_a_row_without_a_usable_answer_is_an_error_without_a_response(status_code: int | None) -> None:
    found = read(status_code=status_code, body=b"ok", error_code="invalid_response", error_message="No JSON.")
    assert found["response"] is None
    assert found["error"] == {"code": "invalid_response", "message": "No JSON."}


@pytest.mark.parametrize("character", [*"\n\r\v\f\x1c\x1d\x1e", "\x85", "\u2028", "\u2029"])
def test_no_character_breaks_a_line(character: str) -> None:
    odd = f"a{character}b"
    assert read(custom_id=odd)["custom_id"] == odd
    assert (
        read(body=json.dumps({"text": odd}, ensure_ascii=False, indent=1).encode())["response"]["body"]["text"] == odd
    )
    assert read(body=None, error_code="timeout", error_message=odd)["error"]["message"] == odd
    assert read(status_code=500, body=odd.encode(), error_code="server_error")["response"]["body"] == odd
