"""`Idempotency-Key` on a POST: the same request again is not done again, and gets the answer that it had."""

import hashlib
from collections.abc import Callable
from io import BufferedRandom
from typing import TypeVar, cast

from flask import Response, make_response, request
from flask.typing import ResponseReturnValue

from common import idempotency, json_text
from common.database import whole_of_account, whole_of_owner
from common.errors import InvalidRequest
from common.idempotency import HEADER, MAX_KEY_CHARACTERS, Answer, Answered
from common.keys import Caller
from common.shared_thread import in_native_thread
from common.together import together
from web import forms

R = TypeVar("R")


class _Refused(Exception):
    """The view answered with an error, of which nothing is kept."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def once(view: Callable[[], R], caller: Caller, *, as_owner: bool) -> R | Response:
    """What the view answers; under a key, all that it does is one transaction with its answer, the owner's or the
    account's. Raises InvalidRequest, KeyReused and StillRunning."""
    key = request.headers.get(HEADER)
    if key is None or request.method != "POST":
        return view()
    sent = idempotency.Request(caller.account_id, _checked(key), _hash())
    # Asked first, so that a large file that comes again is not stored again to find that out.
    if (answer := sent.find()) is not None:
        return _replay(answer)
    whole = whole_of_owner(sent.claim) if as_owner else whole_of_account(caller.account_id, sent.claim)
    try:
        with together(whole):
            response = make_response(cast(ResponseReturnValue, view()))
            if not 200 <= response.status_code < 300:
                raise _Refused(response)
            sent.store(_answer(response))
    except Answered as before:
        return _replay(before.answer)
    except _Refused as refused:
        return refused.response
    return response


def _checked(key: str) -> str:
    if not (1 <= len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"{HEADER} is 1 to {MAX_KEY_CHARACTERS} printable ASCII characters, such as a UUID.",
            param=HEADER,
            code="invalid_idempotency_key",
        )
    return key


def _hash() -> bytes:
    """SHA-256 of what the request says. Each address has a name with and one without the version."""
    path = request.path.removeprefix("/v1")
    hashed = hashlib.sha256(f"{request.method} {path}?{request.query_string.decode('latin-1')}\n".encode())
    hashed.update(_form() if request.mimetype == "multipart/form-data" else b"body\n" + forms.body())
    return hashed.digest()


def _form() -> bytes:
    """A multipart form without its boundary, which is another each time that it is sent."""
    fields = [("field", name, *values) for name, values in request.form.lists()]
    for name, files in request.files.lists():
        for file in files:
            # It is on the disk and read a piece at a time, and here not for the last time.
            content = cast(BufferedRandom, file.stream)
            content.seek(0)
            digest = in_native_thread(hashlib.file_digest, content, "sha256").hexdigest()
            fields.append(("file", name, file.filename or "", digest))
            content.seek(0)
    return b"form\n" + json_text.dumps(sorted(fields))


def _answer(response: Response) -> Answer:
    headers = {name: value for name, value in response.headers.items() if name != "Content-Length"}
    return Answer(response.status_code, headers, response.get_data())


def _replay(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers | {"Idempotency-Replayed": "true"})
