"""Who looks at a page: the person whose session its cookie holds, or a visitor who has not logged in."""

import re
import secrets
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from flask import Response, g, redirect, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from common import csrf, ids, logs, sessions
from common.errors import PermissionDenied, Unsupported
from common.keys import Caller
from common.people import Person
from web import rate_limits
from web.pages import cookies

P = ParamSpec("P")
R = TypeVar("R")

MAX_FORM_BYTES = 64 * 1024
FORM = "application/x-www-form-urlencoded"
# A path of ours with its query: what begins with two slashes is another host's.
OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
MAX_PATH_CHARACTERS = 2_000


def receive() -> None:
    """Called before each page. Raises RateLimited, and PermissionDenied for a form that is not of the visitor's own
    pages."""
    request.max_content_length = MAX_FORM_BYTES
    limits = rate_limits.current()
    limits.refuse_blocked(None)
    limits.count_refused(failed=False)
    token = cookies.SESSION.read()
    g.page_person = sessions.of_page(token) if token is not None else None
    if (person := person_or_none()) is not None and person.account_id is not None:
        logs.account_id.set(ids.show("acct_", person.account_id))
    if request.method == "POST":
        _check_form()


def _check_form() -> None:
    if request.mimetype != FORM:
        raise Unsupported(f"A page's form is sent as {FORM}.")
    # Every browser of the last years says where a form was; the token is for the others, and should this ever be wrong.
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise PermissionDenied("This form was sent by another site: open our own page.", code="csrf")
    owner = _form_owner()
    if owner is None:
        raise PermissionDenied("Your browser sent no cookie: let it keep ours, and open the page again.", code="csrf")
    csrf.check(owner, request.form.get("csrf"))


def _form_owner() -> UUID | str | None:
    """Whom the forms of this request's page are bound to."""
    person = person_or_none()
    if person is not None and person.session_id is not None:
        return person.session_id
    return cookies.VISITOR.read()


def csrf_field() -> Markup:
    """What every form of a page has in it."""
    owner = _form_owner() or g.get("new_visitor")
    if owner is None:
        owner = g.new_visitor = secrets.token_hex(16)
    return Markup('<input type="hidden" name="csrf" value="{}">').format(csrf.token(owner))


def keep_new(answer: Response) -> None:
    """Has the browser of a new visitor keep what their forms are bound to."""
    if (visitor := g.get("new_visitor")) is not None:
        cookies.VISITOR.keep(answer, visitor)


def person_or_none() -> Person | None:
    """Who has logged in."""
    found: Person | None = g.get("page_person")
    return found


def person() -> Person:
    """Who has logged in, on a page for such alone."""
    found = person_or_none()
    assert found is not None
    return found


def caller() -> Caller:
    """As whom the person does what the page needs a scope for."""
    found: Caller = g.page_caller
    return found


def signed_in(scope: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R | AnyResponse]]:
    """A page for who has logged in; where there is a scope, for those whose role in the account has it."""

    def decorate(view: Callable[P, R]) -> Callable[P, R | AnyResponse]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | AnyResponse:
            found = person_or_none()
            if found is None:
                back = request.full_path.rstrip("?") if request.method == "GET" else None
                return redirect(url_for("pages.log_in.page", next=back), 303)
            if scope is not None:
                g.page_caller = found.calling(scope)
            return view(*args, **kwargs)

        return guarded

    return decorate


def own_path(path: str | None) -> str | None:
    """Where a link of ours says to go on; None for what leads elsewhere."""
    if path is None or len(path) > MAX_PATH_CHARACTERS:
        return None
    return path if OWN_PATH.fullmatch(path) else None
