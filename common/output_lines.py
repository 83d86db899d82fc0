"""The lines of a batch's output and error files, made from its rows: no second copy of the answers is kept.

The length of each line is counted when its outcome is written, so that the files' sizes are known without reading them.
So a line is a function of its row alone, and its length must not change from one release to the next.
"""

from uuid import UUID

import msgspec

from common import json_text
from common.results import row_id

_parse = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode


def line(
    batch_id: UUID,
    seq: int,
    custom_id: str,
    status_code: int | None,
    request_id: str | None,
    body: bytes | None,
    error_code: str | None,
    error_message: str | None,
) -> bytes:
    """One line with its end. An answer, good or bad, is a response and no error; a row that got none is an error, and
    so is one whose answer says that all is well and cannot be used: a response of 200 would pass for a success."""
    start = b'{"id":"%b","custom_id":%b,"response":' % (row_id(batch_id, seq).encode(), _one_line(_encode(custom_id)))
    if body is None or status_code is None or (error_code is not None and status_code < 400):
        error = _one_line(_encode({"code": error_code, "message": error_message}))
        return b'%bnull,"error":%b}\n' % (start, error)
    return b'%b{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n' % (
        start,
        status_code,
        _encode(request_id),
        _one_line(body) if _is_json(body) else _one_line(_encode(body.decode("utf-8", "replace"))),
    )


def _one_line(body: bytes) -> bytes:
    """JSON as it came; between its values a line's end is as good as a blank. Three characters that JSON texts may hold
    as they are end a line for many programs, Python's splitlines() among them: they are escaped."""
    body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    if body.isascii():
        return body
    body = body.replace("\u2028".encode(), rb"\u2028").replace("\u2029".encode(), rb"\u2029")
    return body.replace("\x85".encode(), rb"\u0085")


def _is_json(body: bytes) -> bool:
    """Whether any reader takes it: a provider's NaN, or the page of something before it, becomes a string."""
    try:
        body.decode()
        try:
            _parse(body)
        except ValueError:
            # Rarer JSON, such as half a surrogate pair, which only the slower parser takes.
            json_text.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
