"""People at the web app inside the test's process: what they send, and what is mailed to them."""

from copy import copy
from functools import lru_cache
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import psycopg
from flask import Flask
from sqlalchemy import Connection
from werkzeug.test import TestResponse

from common import mails, members, password_hashes, sessions, users
from common.database import as_owner
from common.roles import Role
from common.users import User
from tests.web_client import refused

PASSWORD = "three odd words"


class Visitor:
    """Somebody who asks the JSON API, from an address of their own; logged in once they have tokens."""

    def __init__(self, app: Flask, email: str, address: str = "192.0.2.1") -> None:
        self.email = email
        self.address = address
        self.access_token = ""
        self.refresh_token = ""
        self._http = app.test_client(use_cookies=False)

    def again(self) -> Self:
        """The same person at another place: what is done there leaves the tokens here as they are."""
        return copy(self)

    def request(self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None) -> TestResponse:
        own = {"Authorization": f"Bearer {self.access_token}"} if self.access_token else {}
        return self._http.open(
            path,
            method=method,
            json=json,
            headers=own | (headers or {}),
            environ_base={"REMOTE_ADDR": self.address},
        )

    def get(self, path: str) -> TestResponse:
        return self.request("GET", path)

    def post(self, path: str, json: Any = None) -> TestResponse:
        return self.request("POST", path, json)

    def sign_up(self, account_name: str = "Analytical Engines", password: str = PASSWORD) -> TestResponse:
        sent = {"email": self.email, "password": password, "account_name": account_name}
        return self.post("/auth/sign-up", sent)

    def log_in(self, password: str = PASSWORD) -> Self:
        """Logged in."""
        return self.with_tokens(self.post("/auth/log-in", {"email": self.email, "password": password}))

    def refresh(self, token: str | None = None) -> TestResponse:
        return self.post("/auth/refresh", {"refresh_token": token or self.refresh_token})

    def with_tokens(self, response: TestResponse) -> Self:
        """With the tokens of an answer."""
        found = shown(response)
        self.access_token = found["access_token"]
        self.refresh_token = found.get("refresh_token", self.refresh_token)
        return self

    def with_access(self, token: str) -> Self:
        """With this in the place of the access token, whatever it is."""
        self.access_token = token
        return self

    def logged_in(self) -> bool:
        response = self.get("/auth/me")
        if response.status_code == 200:
            return True
        assert refused(response, 401)["code"] == "invalid_access_token"
        return False


def shown(response: TestResponse, status: int | None = None) -> dict[str, Any]:
    """The JSON object of an answer that is no error."""
    assert response.status_code < 300 if status is None else response.status_code == status, response.text
    found: dict[str, Any] = response.get_json()
    return found


def mailed(database: psycopg.Connection, email: str) -> list[tuple[str, str]]:
    """The mails to an address as templates and texts, oldest first."""
    query = "SELECT template, sealed FROM mails WHERE recipient = %s ORDER BY created_at, id"
    return [(template, mails.unseal(sealed).plain) for template, sealed in database.execute(query, [email])]


def token_of(database: psycopg.Connection, email: str, template: str) -> str:
    """The token of the link in the newest mail of a kind to an address."""
    text = [text for found, text in mailed(database, email) if found == template][-1]
    (link,) = [line for line in text.splitlines() if line.startswith("http")]
    (token,) = parse_qs(urlsplit(link).query)["token"]
    return token


def signed_up(app: Flask, email: str, address: str = "192.0.2.1") -> Visitor:
    """Somebody with an account of their own, logged in; by the verbs of that, without a mail or a second hash."""
    with as_owner() as connection:
        user = users.store_verified(connection, email, _hash())
        assert user is not None
        users.open_account(connection, user.id, f"Account of {email}")
        return _logged_in(connection, app, user, address)


def joined(app: Flask, owner: Visitor, email: str, role: Role) -> Visitor:
    """Somebody new in an owner's account, logged in; as signed_up does it."""
    account_id = sessions.of_access_token(owner.access_token).working_in
    with as_owner() as connection:
        user = users.store_verified(connection, email, _hash())
        assert user is not None
        members.join(connection, account_id, user.id, role)
        return _logged_in(connection, app, user, owner.address)


def _logged_in(connection: Connection, app: Flask, user: User, address: str) -> Visitor:
    session = sessions.begin(connection, user.id, user.version, address, page=False)
    assert session is not None
    visitor = Visitor(app, user.email, address).with_access(session.access_token)
    visitor.refresh_token = session.token
    return visitor


@lru_cache(maxsize=1)
def _hash() -> str:
    """Of PASSWORD: to make one takes a tenth of a second, and on a busy machine one."""
    return password_hashes.make(PASSWORD)
