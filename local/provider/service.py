"""From a request to its reply: which endpoint, which behaviour, which fault."""

import time
from collections.abc import Callable

from pydantic_core import from_json

from local.provider import chat, completions, embeddings, errors, faults, responses
from local.provider.admin import PREFIX, Admin
from local.provider.answer import Answer, Manner, as_json
from local.provider.behaviour import Behaviours, UnknownModelError
from local.provider.calls import Call, Calls, Usage
from local.provider.errors import Error, RefusedError
from local.provider.fields import Body
from local.provider.limits import Limits
from local.provider.reply import EVENTS, Reply, Request
from local.provider.text import Finish

ENDPOINTS: dict[bytes, Callable[[Body, Manner], Answer]] = {
    b"/v1/chat/completions": chat.answer,
    b"/v1/responses": responses.answer,
    b"/v1/completions": completions.answer,
    b"/v1/embeddings": embeddings.answer,
}
MODELS = b"/v1/models"
LISTED_MODELS = ("sim", "gpt-4o-mini", "gpt-4o", "text-embedding-3-small", "text-embedding-3-large")

_FORCED: dict[str | None, Finish] = {"content-filter": "content_filter", "truncated": "length"}


class Service:
    """Answers every request; all of the provider's state is here."""

    def __init__(self, behaviours: Behaviours, calls: Calls) -> None:
        self._behaviours = behaviours
        self._calls = calls
        self._limits = Limits(time.monotonic)
        self._admin = Admin(behaviours, calls, self._limits)

    def reply(self, request: Request) -> Reply:
        endpoint = ENDPOINTS.get(request.path)
        if endpoint is not None and request.method == b"POST":
            return self._call(endpoint, request)
        if request.path.startswith(PREFIX):
            return self._admin.reply(request)
        return self._look_up(request)

    def _call(self, endpoint: Callable[[Body, Manner], Answer], request: Request) -> Reply:
        """Every call counts, also one that is refused."""
        call = self._calls.begin(request.body)
        usage = None
        try:
            reply, usage = self._answered(endpoint, request, call)
        except RefusedError as refused:
            reply = refused.error.reply()
        status = reply.status
        reply.ended = lambda whole: self._calls.end(call, status, whole, usage)
        return reply

    def _answered(
        self, endpoint: Callable[[Body, Manner], Answer], request: Request, call: Call
    ) -> tuple[Reply, Usage | None]:
        _check_key(request)
        body = _parsed(request.body)
        metadata = body.get("metadata")
        if type(metadata) is dict:
            self._calls.names_job(metadata.get("job"))
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise RefusedError(errors.NO_MODEL)
        try:
            behaviour = self._behaviours.of(model)
        except UnknownModelError:
            hint = " Names that start with sim- are reserved; see python -m local.provider --help."
            raise RefusedError(errors.no_model_named(model, hint)) from None

        fault = faults.struck(behaviour.faults, call, behaviour.seed) if behaviour.faults else None
        if fault is not None:
            self._calls.meets(fault)
            instead = faults.instead(fault, model, behaviour)
            if instead is not None:
                return instead, None

        answer = endpoint(body, Manner(behaviour, _FORCED.get(fault)))
        usage = answer.usage
        reply = Reply(200, answer.body, delay=behaviour.latency)
        if behaviour.rpm or behaviour.tpm:
            reply.headers = self._limits.take(model, behaviour, usage.prompt + usage.completion)
        if answer.events is None:
            reply.delay += behaviour.latency_per_token * usage.completion
        else:
            reply.pieces, reply.chunked, reply.content_type = answer.events, True, EVENTS
        if fault is not None:
            faults.spoil(reply, fault, behaviour)
        return reply, None if fault == "not-json" else usage

    def _look_up(self, request: Request) -> Reply:
        method, path = request.method.decode("latin-1"), request.path.decode("latin-1")
        error: Error
        if request.path in ENDPOINTS or (request.path == MODELS and request.method != b"GET"):
            return errors.wrong_method(method, path).reply()
        try:
            _check_key(request)
            if request.path == MODELS:
                return Reply(200, as_json({"object": "list", "data": [_model(name) for name in LISTED_MODELS]}))
            name = path.removeprefix("/v1/models/")
            if name != path:
                self._behaviours.of(name)
                return Reply(200, as_json(_model(name)))
            error = errors.no_address(method, path)
        except UnknownModelError:
            error = errors.no_model_named(name)
        except RefusedError as refused:
            error = refused.error
        return error.reply()


def _check_key(request: Request) -> None:
    scheme, _, key = request.authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not key.strip():
        raise RefusedError(errors.NO_KEY)


def _parsed(body: bytes) -> Body:
    try:
        parsed = from_json(body)
    except ValueError:
        raise RefusedError(errors.NOT_JSON) from None
    if not isinstance(parsed, dict):
        raise RefusedError(errors.NOT_JSON)
    return parsed


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "batchyard-sim"}
