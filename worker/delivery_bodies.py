"""What is sent of an event: its thin body, and with it the result of its job where the endpoint wants that."""

from typing import Any

from common import json_text, webhook_events

MAX_BODY_BYTES = 20 * 1024


def body(row: Any) -> bytes:
    """The body of a claimed delivery. A result that would make it larger than MAX_BODY_BYTES is left out, as is one
    that is kept no longer: `result_omitted` says which."""
    if not (row.include_result and row.type in webhook_events.JOB_TYPES):
        return _body(row, row.data)
    if not row.has_result:
        return _body(row, row.data | _omitted("expired"))
    if row.answer_bytes is None or row.answer is not None:
        whole = _body(row, row.data | {"result": _result(row)})
        if len(whole) <= MAX_BODY_BYTES:
            return whole
    return _body(row, row.data | _omitted("too_large"))


def _body(row: Any, data: dict[str, Any]) -> bytes:
    return webhook_events.body(row.event_id, row.type, row.created_at, data)


def _omitted(reason: str) -> dict[str, Any]:
    return {"result": None, "result_omitted": reason}


def _result(row: Any) -> dict[str, Any]:
    """As GET /v1/jobs/{id} shows its response and its error."""
    response = None
    if row.status_code is not None:
        answer = None if row.answer is None else _answer(bytes(row.answer))
        response = {"status_code": row.status_code, "request_id": row.request_id, "body": answer}
    error = {"code": row.error_code, "message": row.error_message} if row.error_code else None
    return {"response": response, "error": error}


def _answer(sent: bytes) -> Any:
    """What a provider sent, as JSON where it is JSON and as text where not."""
    try:
        return json_text.loads(sent)
    except ValueError:
        return sent.decode("utf-8", "replace")
