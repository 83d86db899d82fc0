"""Who sends a request: an API key as `Authorization: Bearer` or `X-API-Key`."""

from collections.abc import Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from flask import Response, g, request

from common import ids, key_uses, keys, logs
from common.errors import AuthenticationFailed, PermissionDenied
from common.keys import Caller
from web import idempotency

P = ParamSpec("P")
R = TypeVar("R")


def requires(scope: str) -> Callable[[Callable[P, R]], Callable[P, R | Response]]:
    """A view that only a key with this scope may call; `caller()` tells who does. Sent again under an Idempotency-Key,
    a POST is not done again."""

    def decorate(view: Callable[P, R]) -> Callable[P, R | Response]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
            g.caller = keys.authenticate(_sent_key())
            key_uses.gathered().note(g.caller.key_id)
            logs.account_id.set(ids.show("acct_", g.caller.account_id))
            if scope not in g.caller.scopes:
                raise PermissionDenied(
                    f"This API key lacks the scope {scope!r}: use one that has it.", code="scope_missing"
                )
            return idempotency.once(partial(view, *args, **kwargs), g.caller, as_owner=scope == "admin")

        return guarded

    return decorate


def caller() -> Caller:
    """The caller of this request."""
    found: Caller = g.caller
    return found


def _sent_key() -> str:
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    if key := request.headers.get("X-API-Key", "").strip():
        return key
    raise AuthenticationFailed(
        "Send an API key as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.", code="missing_api_key"
    )
