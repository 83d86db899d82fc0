"""Who sends a request: an API key as `Authorization: Bearer` or `X-API-Key`."""

from collections.abc import Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from flask import Response, current_app, g, request

from common import ids, key_uses, keys, logs
from common.errors import AuthenticationFailed, PermissionDenied
from common.keys import Caller
from web import idempotency, rate_limits

P = ParamSpec("P")
R = TypeVar("R")
SCOPE = "required_scope"


def requires(scope: str) -> Callable[[Callable[P, R]], Callable[P, R | Response]]:
    """A view that only a key with this scope may call; `caller()` tells who does. Sent again under an Idempotency-Key,
    a POST is not done again."""

    def decorate(view: Callable[P, R]) -> Callable[P, R | Response]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
            return idempotency.once(partial(view, *args, **kwargs), caller(), as_owner=scope == "admin")

        # What wraps this has it too, and it is read before the view is called.
        setattr(guarded, SCOPE, scope)
        return guarded

    return decorate


def caller() -> Caller:
    """The caller of this request."""
    found: Caller = g.caller
    return found


def authenticate() -> None:
    """Called before each request's view. Raises AuthenticationFailed, PermissionDenied, and RateLimited: for an address
    that has sent too many wrong keys without a look at the database."""
    if (scope := _required_scope()) is None:
        return
    limits = rate_limits.current()
    key = _sent_key()
    limits.refuse_blocked(key)
    try:
        if key is None:
            raise AuthenticationFailed(
                "Send an API key as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.", code="missing_api_key"
            )
        found = g.caller = keys.authenticate(key)
    except (AuthenticationFailed, PermissionDenied) as error:
        limits.count_refused(failed=isinstance(error, AuthenticationFailed))
        raise
    key_uses.gathered().note(found.key_id)
    logs.account_id.set(ids.show("acct_", found.account_id))
    limits.count(found, key)
    if scope not in found.scopes:
        raise PermissionDenied(f"This API key lacks the scope {scope!r}: use one that has it.", code="scope_missing")


def _required_scope() -> str | None:
    # Flask itself answers OPTIONS, and no view is called then.
    if request.endpoint is None or request.method == "OPTIONS":
        return None
    scope: str | None = getattr(current_app.view_functions[request.endpoint], SCOPE, None)
    return scope


def _sent_key() -> str | None:
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    return request.headers.get("X-API-Key", "").strip() or None
