"""The rows of a batch file in JSON lines: `{"custom_id", "method", "url", "body"}`, one request a line.

A line that is as it should be is checked by a decoder that knows the few fields that matter and leaves the rest as
bytes: the body goes to the provider as it was written. Only a line that it does not take is parsed in full, to say what
is wrong with it.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from common import json_text
from common.endpoints import MAX_MODEL_CHARACTERS, PROMPT_FIELDS, check_body
from common.errors import InvalidRequest, LineError
from common.input_rows import MAX_CUSTOM_ID_CHARACTERS, BadRow, InputRow, JobRow, custom_id_problem
from common.reservations import Reserver

MAX_LINE_BYTES = 2**20
BOM = b"\xef\xbb\xbf"
# A NUL byte in the first block tells a binary file; JSON text has none.
PROBE_BYTES = 8192
ALLOWED_MODELS_REMEMBERED = 1000


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    body: msgspec.Raw
    method: str
    url: str


def read(file: BinaryIO, endpoint: str, is_allowed: Callable[[str], bool], reserver: Reserver) -> Iterator[InputRow]:
    """Every line but blank ones. `file` stands at its beginning; it is read forward, in the memory of one line.

    `is_allowed` tells whether the batch's customer may use a model; `reserver` says what each job has held for it.
    """
    judge = _Judge(endpoint, is_allowed, reserver)
    accepted = _accepting(endpoint, judge.is_allowed, reserver)
    empty = True
    for line, text in _lines(file):
        if text is None:
            message = f"line {line} is over {MAX_LINE_BYTES:,} bytes: shorten its body"
            yield BadRow(LineError("line_too_long", line, message, "file"), "")
        elif (row := accepted(line, text)) is not None:
            yield row
        elif not text.strip():
            continue
        elif empty and b"\0" in text[:PROBE_BYTES]:
            yield LineError("not_text", line, "the file is no text: a batch file has one JSON object a line", "file")
            return
        else:
            yield judge.row(line, text)
        empty = False
    if empty:
        yield LineError("empty_file", 1, "the file is empty: a batch file has one request a line", "file")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers, without the byte order mark; None for one that is too long to be kept."""
    line = 0
    while text := file.readline(len(BOM) + MAX_LINE_BYTES + len(b"\r\n")):
        line += 1
        if line == 1:
            text = text.removeprefix(BOM)
        if len(text) > MAX_LINE_BYTES and len(text.removesuffix(b"\n").removesuffix(b"\r")) > MAX_LINE_BYTES:
            while text and not text.endswith(b"\n"):
                text = file.readline(MAX_LINE_BYTES)
            yield line, None
        else:
            yield line, text


def _accepting(
    endpoint: str, is_allowed: Callable[[str], bool], reserver: Reserver
) -> Callable[[int, bytes], JobRow | None]:
    """The fast way: the row of a line that is as it should be, None for any other."""
    decode_line = msgspec.json.Decoder(_Line).decode
    # The whole of it, although little is looked at: a number that is too large shows only when it is read.
    decode_body = msgspec.json.Decoder(dict[str, Any]).decode
    field = PROMPT_FIELDS[endpoint]
    may_be_text = field != "messages"
    hold = reserver.hold

    def accepted(line: int, text: bytes) -> JobRow | None:
        try:
            found = decode_line(text)
            body = decode_body(found.body)
            if not text.isascii():
                # The decoder skips what it does not need, and with it bytes that are no UTF-8.
                text.decode()
        except (ValueError, RecursionError):
            return None
        custom_id, model, prompt = found.custom_id, body.get("model"), body.get(field)
        if (
            found.url != endpoint
            or found.method != "POST"
            or not 0 < len(custom_id) <= MAX_CUSTOM_ID_CHARACTERS
            or "\0" in custom_id
            or not custom_id.strip()
            or not prompt
            or not (type(prompt) is list or (may_be_text and type(prompt) is str and prompt.strip()))
            or body.get("stream")
            or type(model) is not str
            or not is_allowed(model)
        ):
            return None
        try:
            sent, tokens, cost = hold(body, bytes(found.body))
        except InvalidRequest:
            return None
        return JobRow(line, custom_id, sent, tokens, cost)

    return accepted


class _Judge:
    """The slow way: what is wrong with a line, or that it is right after all."""

    def __init__(self, endpoint: str, is_allowed: Callable[[str], bool], reserver: Reserver) -> None:
        self._endpoint = endpoint
        self._reserver = reserver
        self._ask = is_allowed
        self._allowed: dict[str, bool] = {}

    def is_allowed(self, model: str) -> bool:
        allowed = self._allowed.get(model)
        if allowed is None:
            allowed = 0 < len(model) <= MAX_MODEL_CHARACTERS and bool(model.strip()) and "\0" not in model
            allowed = allowed and self._ask(model)
            if len(self._allowed) < ALLOWED_MODELS_REMEMBERED:
                self._allowed[model] = allowed
        return allowed

    def row(self, line: int, text: bytes) -> InputRow:
        try:
            request = json_text.loads(text)
        except UnicodeDecodeError as error:
            message = f"line {line} has bytes that are no UTF-8, at byte {error.start + 1}: save the file as UTF-8"
            return BadRow(LineError("invalid_encoding", line, message, "file"), "")
        except ValueError as error:
            message = f"line {line} is not JSON: {error}"
            return BadRow(LineError("invalid_json_line", line, message, "file"), "")
        if not isinstance(request, dict):
            message = f"line {line} is not a JSON object: each line is one request"
            return BadRow(LineError("invalid_json_line", line, message, "file"), "")
        custom_id = request.get("custom_id")
        problem = self._problem(line, request)
        named = custom_id if isinstance(custom_id, str) and _is_usable(custom_id) else ""
        if problem is not None:
            return BadRow(problem, named)
        try:
            return JobRow(line, named, *self._reserver.hold(request["body"], json_text.dumps(request["body"])))
        except InvalidRequest as error:
            return BadRow(_body_error(line, error), named)

    def _problem(self, line: int, request: dict[str, Any]) -> LineError | None:
        custom_id, body = request.get("custom_id"), request.get("body")
        if custom_id is None:
            return LineError("missing_custom_id", line, f"line {line} has no custom_id: give it one", "custom_id")
        if not isinstance(custom_id, str):
            message = f"line {line} has a custom_id that is no string: put it in quotes"
            return LineError("invalid_custom_id", line, message, "custom_id")
        if (problem := custom_id_problem(line, custom_id)) is not None:
            return problem
        if not json_text.is_storable(custom_id):
            message = f"line {line} has a custom_id with a NUL character or half of a surrogate pair: leave it out"
            return LineError("invalid_custom_id", line, message, "custom_id")
        if request.get("method") != "POST":
            message = f"line {line} has the method {_shown(request.get('method'))}: it has to be POST"
            return LineError("invalid_method", line, message, "method")
        if request.get("url") != self._endpoint:
            message = f"line {line} has the url {_shown(request.get('url'))}; the batch's endpoint is {self._endpoint}"
            return LineError("url_mismatch", line, message, "url")
        if not isinstance(body, dict):
            message = f"line {line} has no body: a JSON object, as {self._endpoint} takes it"
            return LineError("invalid_body", line, message, "body")
        return self._body_problem(line, body)

    def _body_problem(self, line: int, body: dict[str, Any]) -> LineError | None:
        try:
            check_body(self._endpoint, body)
        except InvalidRequest as error:
            return _body_error(line, error)
        if not self.is_allowed(body["model"]):
            message = f"line {line} asks for the model {body['model']!r}, which this service or your plan does not have"
            return LineError("model_not_allowed", line, message, "body.model")
        return None


def _body_error(line: int, error: InvalidRequest) -> LineError:
    return LineError(error.code or "invalid_body", line, f"line {line}: {error.message}", error.param)


def _is_usable(custom_id: str) -> bool:
    return len(custom_id) <= MAX_CUSTOM_ID_CHARACTERS and json_text.is_storable(custom_id)


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else "none" if value is None else "that is no string"
    return text if len(text) <= 60 else text[:60] + "..."
