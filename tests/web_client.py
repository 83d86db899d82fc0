"""The web app inside the test's process: for tests that claim and record by themselves and look at what is shown."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Self
from uuid import UUID

from werkzeug.test import TestResponse

from common import accounts, ids, keys
from tests.customer import error_in


class WebClient:
    """A customer of its own account."""

    def __init__(self, plan: str = "pro", scopes: Sequence[str] = keys.DEFAULT_SCOPES) -> None:
        # Imported here: the app reads its settings when it is loaded.
        from web.app import create_app

        key = keys.create(accounts.create("Ann", plan).id, "test", scopes)
        self.caller = keys.authenticate(key)
        self.key = key
        self.app = create_app()
        self._headers = {"Authorization": f"Bearer {key}"}
        self._http = self.app.test_client()

    def using(self, key: str) -> Self:
        """The same app, asked with another key."""
        other = copy(self)
        other.key = key
        other._headers = {"Authorization": f"Bearer {key}"}
        return other

    def get(self, path: str, **query: str | int) -> TestResponse:
        return self._http.get(path, query_string=query, headers=self._headers)

    def post(self, path: str, headers: dict[str, str] | None = None, **sent: Any) -> TestResponse:
        return self._http.post(path, headers=self._headers | (headers or {}), **sent)

    def patch(self, path: str, **sent: Any) -> TestResponse:
        return self._http.patch(path, headers=self._headers, **sent)

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, **sent: Any) -> TestResponse:
        """Sends a path with its query as it stands, percents and all."""
        return self._http.open(path, method=method, headers=self._headers | (headers or {}), **sent)

    def delete(self, path: str) -> TestResponse:
        return self._http.delete(path, headers=self._headers)

    def batch(self, batch_id: UUID) -> dict[str, Any]:
        found = self.get(f"/v1/batches/{ids.show('batch_', batch_id)}")
        assert found.status_code == 200, found.text
        shown: dict[str, Any] = found.get_json()
        return shown


@contextmanager
def own_logging() -> Iterator[None]:
    """The app sends every log record to its own handler; afterwards they go where they went before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def refused(response: TestResponse, status: int) -> dict[str, Any]:
    """The error of a refused request, after checking its shape."""
    assert response.status_code == status, response.text
    return error_in(response.headers, response.get_json())
