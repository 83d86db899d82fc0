"""Who may send how many requests, and what they are told."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
import pytest
from werkzeug.test import TestResponse

from common import accounts, keys
from common.accounts import Account
from tests.process_settings import process_settings
from tests.web_client import own_logging, refused

WRONG_KEY = "by_aaaaaaaa_" + "A" * 43
SENDER, OTHER_SENDER = "192.0.2.1", "192.0.2.2"
TOLD = {
    "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
}  # fmt: skip


class Web:
    """The web app in the test's process, and the accounts that it knows."""

    def __init__(self, database: psycopg.Connection) -> None:
        # Imported here: the app reads its settings when it is loaded.
        from web.app import create_app

        self._database = database
        self._http = create_app().test_client()

    def account(self, **limits: int) -> Account:
        """An account on the pro plan with limits of its own."""
        account = accounts.create("Ann", "pro")
        self._database.execute("UPDATE accounts SET overrides = %s WHERE id = %s", [json.dumps(limits), account.id])
        return account

    def key(self, **limits: int) -> str:
        return keys.create(self.account(**limits).id, "test")

    def get(
        self, key: str | None, path: str = "/v1/jobs", sender: str = SENDER, forwarded_for: str = ""
    ) -> TestResponse:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        if forwarded_for:
            headers["X-Forwarded-For"] = forwarded_for
        return self._http.get(path, headers=headers, environ_base={"REMOTE_ADDR": sender})

    def statuses(self, key: str | None, times: int, sender: str = SENDER) -> list[int]:
        return [self.get(key, sender=sender).status_code for _ in range(times)]


@contextmanager
def web_with(env: Mapping[str, str], database: psycopg.Connection, **settings: int) -> Iterator[Web]:
    named = {name.upper(): str(value) for name, value in settings.items()}
    with process_settings({**env, **named}), own_logging():
        yield Web(database)


@pytest.fixture
def web_app(settings: dict[str, str], database: psycopg.Connection) -> Iterator[Web]:
    with web_with(settings, database) as web:
        yield web


def test_a_key_over_its_limit_is_told_what_it_is_and_when_it_passes(web_app: Web) -> None:
    key = web_app.key(key_requests_per_minute=3)
    began = time.monotonic()
    assert web_app.statuses(key, 3) == [200] * 3
    response = web_app.get(key)
    took = time.monotonic() - began
    error = refused(response, 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")
    seconds = int(response.headers["Retry-After"])
    assert 59 - took <= seconds <= 62
    assert error["message"] == (
        f"The limit of 3 requests a minute for one API key is reached: send this one again in {seconds} s."
    )
    assert response.headers["x-should-retry"] == "true"
    assert web_app.get(web_app.key()).status_code == 200


def test_a_limit_of_a_day_is_nothing_to_wait_for(web_app: Web) -> None:
    key = web_app.key(key_requests_per_day=1)
    assert web_app.statuses(key, 1) == [200]
    response = web_app.get(key)
    assert "1 requests a day for one API key" in refused(response, 429)["message"]
    assert 86_000 <= int(response.headers["Retry-After"]) <= 90_000
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("limit", ["requests_per_minute", "requests_per_day"])
def test_all_keys_of_an_account_have_its_limit_together_and_what_one_is_refused_costs_the_other_nothing(
    web_app: Web, limit: str
) -> None:
    account = web_app.account(**{limit: 6, "key_requests_per_minute": 4})
    one, other = (keys.create(account.id, name) for name in ("one", "other"))
    assert web_app.statuses(one, 20) == [200] * 4 + [429] * 16
    assert web_app.statuses(other, 3) == [200] * 2 + [429]
    assert "for all keys of this account together" in refused(web_app.get(other), 429)["message"]


def test_every_answer_to_a_key_tells_what_is_left_of_the_limit_that_is_nearest(web_app: Web) -> None:
    account = web_app.account(key_requests_per_minute=50, requests_per_day=40)
    key, narrow = keys.create(account.id, "all"), keys.create(account.id, "files", ("files",))
    sent = (
        (key, "/v1/jobs", 200),
        (key, "/v1/jobs/job_1", 404),
        (key, "/v1/jobs?limit=-1", 400),
        (narrow, "/v1/jobs", 403),
    )
    for number, (by, path, status) in enumerate(sent, start=1):
        response = web_app.get(by, path)
        assert response.status_code == status
        told = {name.lower(): value for name, value in response.headers if name.lower() in TOLD}
        assert set(told) == TOLD
        assert told["ratelimit-limit"] == told["x-ratelimit-limit-requests"] == "40"
        assert told["ratelimit-remaining"] == told["x-ratelimit-remaining-requests"] == str(40 - number)
        assert told["x-ratelimit-reset-requests"] == told["ratelimit-reset"] + "s"
        assert 86_000 <= int(told["ratelimit-reset"]) <= 90_000
        assert told["ratelimit-policy"] == "50;w=60, 10000000;w=86400, 60000;w=60, 40;w=86400, 300000;w=60"
    assert {name.lower() for name, _ in web_app.get(WRONG_KEY).headers} >= TOLD
    assert not TOLD & {name.lower() for name, _ in web_app.get(None, "/healthz").headers}


def test_an_address_that_guesses_keys_is_slowed_and_its_neighbours_are_not_locked_out(
    settings: dict[str, str], database: psycopg.Connection
) -> None:
    with web_with(settings, database, address_failures_per_minute=5) as web:
        at_work, new = web.key(), web.key()
        assert web.get(at_work).status_code == 200
        began = time.monotonic()
        assert web.statuses(WRONG_KEY, 4) + web.statuses(None, 1) == [401] * 5
        response = web.get(WRONG_KEY)
        took = time.monotonic() - began
        error = refused(response, 429)
        assert error["code"] == "rate_limited"
        assert "5 requests a minute without a valid API key from one address" in error["message"]
        assert 59 - took <= int(response.headers["Retry-After"]) <= 62
        # Not even a key that is right says so to who has guessed too often; one that was at work here goes on.
        assert web.statuses(new, 2) == [429] * 2
        assert web.statuses(at_work, 2) == [200] * 2
        assert web.statuses(WRONG_KEY, 1, OTHER_SENDER) + web.statuses(new, 1, OTHER_SENDER) == [401, 200]


def test_who_is_slowed_asks_the_database_nothing(settings: dict[str, str], database: psycopg.Connection) -> None:
    with web_with(settings, database, address_failures_per_minute=1) as web:
        assert web.statuses(WRONG_KEY, 2) == [401, 429]
        database.execute("ALTER FUNCTION find_api_key(text) RENAME TO gone")
        assert web.statuses(WRONG_KEY, 1) == [429]
        assert web.statuses(WRONG_KEY, 1, OTHER_SENDER) == [500]


def test_an_address_has_a_limit_whatever_its_keys_may(settings: dict[str, str], database: psycopg.Connection) -> None:
    with web_with(settings, database, address_requests_per_minute=4) as web:
        assert web.statuses(web.key(), 3) + web.statuses(web.key(), 2) == [200] * 4 + [429]
        assert "4 requests a minute from one address" in refused(web.get(web.key()), 429)["message"]
        assert web.statuses(web.key(), 1, OTHER_SENDER) == [200]


def test_an_address_is_the_clients_behind_so_many_proxies_as_are_trusted_and_no_other(
    settings: dict[str, str], database: psycopg.Connection
) -> None:
    for proxies, forwarded, statuses in (
        (0, ("198.51.100.1", "198.51.100.2"), [401, 429]),
        (1, ("198.51.100.1", "198.51.100.2"), [401, 401]),
        (1, ("1.1.1.1, 198.51.100.3", "2.2.2.2, 198.51.100.3"), [401, 429]),
        (2, ("198.51.100.4, 10.0.0.1", "198.51.100.5, 10.0.0.1"), [401, 401]),
    ):
        with web_with(settings, database, address_failures_per_minute=1, trusted_proxies=proxies) as web:
            found = [web.get(WRONG_KEY, forwarded_for=address).status_code for address in forwarded]
            assert found == statuses, (proxies, forwarded)


def test_all_addresses_of_an_ipv6_client_are_one(settings: dict[str, str], database: psycopg.Connection) -> None:
    with web_with(settings, database, address_failures_per_minute=1) as web:
        assert web.statuses(WRONG_KEY, 1, "2001:db8:1:2::1") == [401]
        assert web.statuses(WRONG_KEY, 1, "2001:db8:1:2:ffff::9") == [429]
        assert web.statuses(WRONG_KEY, 1, "2001:db8:1:3::1") == [401]


def test_a_suspended_account_is_told_so_and_guesses_nothing(
    settings: dict[str, str], database: psycopg.Connection
) -> None:
    with web_with(settings, database, address_failures_per_minute=1) as web:
        key = web.key()
        database.execute("UPDATE accounts SET state = 'suspended'")
        for _ in range(3):
            assert refused(web.get(key), 403)["code"] == "account_suspended"
