"""Somebody at the pages of the web app inside the test's process: a browser's cookies and forms, and nothing to see."""

import re
from functools import lru_cache
from typing import Self

from flask import Flask
from werkzeug.test import TestResponse

from common import members, password_hashes, sessions, users
from common.database import as_owner
from common.people import Person
from common.roles import Role
from tests.people import PASSWORD

CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')


class PageVisitor:
    """With cookies of its own. `form` is the page whose form is sent, which has the token for it."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.http = app.test_client()

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.http.get(path, headers=headers)

    def csrf(self, form: str) -> str:
        """The token that a page's forms carry."""
        found = CSRF.search(self.get(form).text)
        assert found is not None
        return found[1]

    def send(self, path: str, form: str | None = None, **typed: str | list[str]) -> TestResponse:
        """Fills in and sends a form of the page `form`, or of the page at the same path."""
        return self.http.post(path, data={"csrf": self.csrf(form or path), **typed})

    def logged_in(self, email: str, account: str | None = None, role: Role = "owner", of: Self | None = None) -> Self:
        """As a new user with an account of their own, or with a role in that of another."""
        with as_owner() as connection:
            user = users.store_verified(connection, email, _hash())
            assert user is not None
            if of is None:
                users.open_account(connection, user.id, account or f"Account of {email}")
            else:
                members.join(connection, of.person().working_in, user.id, role)
            session = sessions.begin(connection, user.id, user.version, "192.0.2.1", page=True)
        assert session is not None
        self.http.set_cookie("batchyard_session", session.token)
        return self

    def person(self) -> Person:
        """Who the cookie says this is."""
        cookie = self.http.get_cookie("batchyard_session")
        assert cookie is not None
        found = sessions.of_page(cookie.value)
        assert found is not None
        return found


@lru_cache(maxsize=1)
def _hash() -> str:
    """Of PASSWORD: to make one takes long on a busy machine."""
    return password_hashes.make(PASSWORD)
