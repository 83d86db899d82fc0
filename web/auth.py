"""Who sends a request: an API key as `Authorization: Bearer` or `X-API-Key`, or a person by their access token or
one of the operator's identity provider.

Never by a cookie: what another site has a browser send brings cookies, and no header.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from flask import Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from common import access_tokens, identities, identity_tokens, ids, key_uses, keys, logs, roles, sessions
from common.errors import AuthenticationFailed, BatchyardError, PermissionDenied, RateLimited
from common.idempotency import HEADER
from common.keys import Caller
from common.people import Person
from common.remembered_keys import NotConfirmed
from web import idempotency, rate_limits

P = ParamSpec("P")
R = TypeVar("R")
ViewT = TypeVar("ViewT", bound=Callable[..., object])
ACCESS = "access"
# Where somebody with a token of the operator's identity provider says in which of their accounts they work.
ACCOUNT_HEADER = "Batchyard-Account"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a view: keys and people with this scope, as `keys` and `people` say. Without a scope any person may,
    also one without an account; without either, anybody. One that `confirms` takes keys as they are remembered."""

    scope: str | None
    keys: bool
    people: bool
    confirms: bool = False


def requires(
    scope: str, *, key: bool = False, confirms: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R | Response]]:
    """A view that only a key with this scope may call, or a person whose role has it; `caller()` tells who does. One
    that runs jobs takes a `key` alone. Sent again under an Idempotency-Key, a POST is not done again. A view that
    `confirms` does something in one step or refuses to, and does nothing for a remembered key that is not confirmed."""
    people = not key and any(scope in scopes for scopes in roles.SCOPES.values())
    access = Access(scope, keys=True, people=people, confirms=confirms)

    def decorate(view: Callable[P, R]) -> Callable[P, R | Response]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
            done = partial(view, *args, **kwargs)
            if caller().remembered is not None:
                return _confirmed(done, access)
            return idempotency.once(done, caller(), as_owner=scope == "admin")

        # What wraps this has it too, and it is read before the view is called.
        setattr(guarded, ACCESS, access)
        return guarded

    return decorate


def _confirmed(view: Callable[[], R], access: Access) -> R:
    """What the view answers to a remembered key. A refusal is one by what was remembered: whether it stands, or another
    comes before it, is known once the key was looked up."""
    try:
        answer = view()
    except (BatchyardError, HTTPException, NotConfirmed) as refusal:
        remembered = caller()
        credential = _sent_credential()
        _identify(access, credential)
        # In windows of limits that are others now.
        rate_limits.current().count(caller(), credential or "")
        _check_scope(access)
        if isinstance(refusal, HTTPException) or (isinstance(refusal, BatchyardError) and caller() == remembered):
            raise
        return view()
    key_uses.gathered().note(caller().key_id)
    return answer


def for_people(scope: str | None = None) -> Callable[[ViewT], ViewT]:
    """A view that only people may call, where there is a scope only those whose role has it; `person()` tells who
    does."""
    return _marked(Access(scope, keys=False, people=True))


def for_anybody() -> Callable[[ViewT], ViewT]:
    """A view for who has not logged in; it counts as a request of its address."""
    return _marked(Access(None, keys=False, people=False))


def _marked(access: Access) -> Callable[[ViewT], ViewT]:
    def decorate(view: ViewT) -> ViewT:
        setattr(view, ACCESS, access)
        return view

    return decorate


def caller() -> Caller:
    """The caller of this request."""
    found: Caller = g.caller
    return found


def person() -> Person:
    """The person who sends this request."""
    found: Person = g.person
    return found


def authenticate() -> None:
    """Called before each request's view. Raises AuthenticationFailed, PermissionDenied, and RateLimited: for an address
    that has sent too many wrong keys without a look at the database."""
    access = _access()
    if access is None:
        return
    limits = rate_limits.current()
    if not (access.keys or access.people):
        limits.refuse_blocked(None)
        limits.count_refused(failed=False)
        return
    credential = _sent_credential()
    limits.refuse_blocked(credential)
    if access.confirms and credential is not None and _take_remembered(access, credential):
        return
    _identify(access, credential)
    if access.scope is None:
        limits.count_person(person(), credential or "")
        return
    limits.count(caller(), credential or "")
    _check_scope(access)


def _take_remembered(access: Access, credential: str) -> bool:
    """Whether this request goes on with its key as it is remembered: not where it would be refused, nor where it may
    have had its answer before."""
    found = keys.remembered(credential) if HEADER not in request.headers else None
    if found is None or access.scope not in found.scopes:
        return False
    try:
        rate_limits.current().count(found, credential)
    except RateLimited:
        return False
    g.caller = found
    logs.account_id.set(ids.show("acct_", found.account_id))
    return True


def _identify(access: Access, credential: str | None) -> None:
    try:
        _look_up(access, credential)
    except (AuthenticationFailed, PermissionDenied) as error:
        rate_limits.current().count_refused(failed=isinstance(error, AuthenticationFailed))
        raise
    if access.scope is not None:
        logs.account_id.set(ids.show("acct_", caller().account_id))


def _check_scope(access: Access) -> None:
    if access.scope not in caller().scopes:
        raise PermissionDenied(
            f"This API key lacks the scope {access.scope!r}: use one that has it.", code="scope_missing"
        )


def _look_up(access: Access, credential: str | None) -> None:
    is_persons = credential is not None and (access_tokens.is_one(credential) or identity_tokens.is_one(credential))
    if credential is None or not (access.people if is_persons else access.keys):
        raise _missing(access)
    if is_persons:
        g.person = _person(credential)
        if access.scope is not None:
            g.caller = g.person.calling(access.scope)
    else:
        g.caller = keys.authenticate(credential)
        key_uses.gathered().note(g.caller.key_id)


def _person(token: str) -> Person:
    if access_tokens.is_one(token):
        return sessions.of_access_token(token)
    # No session has an account that was chosen.
    return identities.of_token(token, request.headers.get(ACCOUNT_HEADER))


def _missing(access: Access) -> AuthenticationFailed:
    if access.keys:
        return AuthenticationFailed(
            "Send an API key as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.", code="missing_api_key"
        )
    return AuthenticationFailed(
        "Log in, and send the access token as 'Authorization: Bearer <token>'.", code="missing_access_token"
    )


def _access() -> Access | None:
    # Flask itself answers OPTIONS, and no view is called then.
    if request.endpoint is None or request.method == "OPTIONS":
        return None
    found: Access | None = getattr(current_app.view_functions[request.endpoint], ACCESS, None)
    return found


def _sent_credential() -> str | None:
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    return request.headers.get("X-API-Key", "").strip() or None
