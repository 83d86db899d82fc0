"""Jobs of a key that is not looked up for each: it is confirmed by what stores them, and so by nothing less."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from werkzeug.test import TestResponse

from common import accounts, credentials, ids, keys, submissions
from common.audit import COMMAND_LINE
from common.endpoints import CHAT
from common.remembered_keys import NotConfirmed, Remembered
from common.submissions import Submission
from tests.customer import error_in
from tests.web_client import WebClient

JOB = {"model": "sim", "prompt": "Hi"}


def submit(web: WebClient, headers: dict[str, str] | None = None, **fields: Any) -> TestResponse:
    return web.post("/v1/jobs", json=JOB | fields, headers=headers)


def refusal(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, error_in(response.headers, response.get_json())["code"]


def jobs(database: psycopg.Connection) -> int:
    found = database.execute("SELECT count(*) FROM jobs").fetchone()
    assert found is not None
    return int(found[0])


@pytest.fixture
def customer(web: WebClient) -> WebClient:
    """Whose key this process remembers."""
    assert submit(web).status_code == 202
    assert keys.remembered(web.key) == web.caller
    return web


@pytest.fixture
def looked_up(customer: WebClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prefixes of the keys that are looked up from now on."""
    found: list[str] = []
    go = keys._looked_up.go

    def noted(of: None, prefix: str) -> object:
        found.append(prefix)
        return go(of, prefix)

    monkeypatch.setattr(keys._looked_up, "go", noted)
    return found


def revoke(web: WebClient, database: psycopg.Connection) -> None:
    keys.revoke(
        COMMAND_LINE, web.caller.account_id, keys.list_page(COMMAND_LINE, web.caller.account_id, None, 1)[0].shown_id
    )


def expire(web: WebClient, database: psycopg.Connection) -> None:
    database.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", [web.caller.id])


def suspend(web: WebClient, database: psycopg.Connection) -> None:
    database.execute("UPDATE accounts SET state = 'suspended' WHERE id = %s", [web.caller.account_id])


def take_scope(web: WebClient, database: psycopg.Connection) -> None:
    database.execute("UPDATE api_keys SET scopes = '{files}' WHERE id = %s", [web.caller.id])


Ending = Callable[[WebClient, psycopg.Connection], None]
ENDINGS = [
    (revoke, (401, "invalid_api_key")),
    (expire, (401, "invalid_api_key")),
    (suspend, (403, "account_suspended")),
    (take_scope, (403, "scope_missing")),
]
# What is sent, and how it would be refused if the key were as it was.
SENT = [
    ({}, None),
    ({"model": 7}, 400),
    ({"expires_in": 0}, 400),
    ({"webhook_url": "https://example.com/hook"}, None),
]


def test_the_job_of_a_remembered_key_takes_no_look_up_and_anything_else_does(
    customer: WebClient, looked_up: list[str]
) -> None:
    for _ in range(3):
        assert submit(customer).status_code == 202
    assert looked_up == []
    assert customer.get("/v1/jobs").status_code == 200
    assert submit(customer, headers={"Idempotency-Key": "a"}).status_code == 202
    assert looked_up == [credentials.prefix_of(customer.key)] * 2


@pytest.mark.parametrize(("end", "told"), ENDINGS)
@pytest.mark.parametrize(("sent", "otherwise"), SENT)
def test_a_key_that_is_no_longer_valid_does_nothing_and_is_told_so_whatever_it_sends(
    customer: WebClient, database: psycopg.Connection, end: Ending, told: tuple[int, str], sent: dict[str, Any],
    otherwise: int | None,
) -> None:  # fmt: skip
    if otherwise is not None:
        assert submit(customer, **sent).status_code == otherwise
    end(customer, database)
    for _ in range(2):
        assert refusal(submit(customer, **sent)) == told
    assert jobs(database) == 1
    assert database.execute("SELECT count(*) FROM webhook_endpoints").fetchone() == (0,)


def test_a_key_that_is_revoked_gets_no_answer_from_before_under_an_idempotency_key(
    customer: WebClient, database: psycopg.Connection
) -> None:
    headers = {"Idempotency-Key": "once"}
    assert submit(customer, headers).status_code == 202
    revoke(customer, database)
    assert refusal(submit(customer, headers)) == (401, "invalid_api_key")


def test_a_revoked_key_over_its_rate_limit_is_told_that_it_is_no_key(
    customer: WebClient, database: psycopg.Connection
) -> None:
    database.execute(
        """UPDATE accounts SET overrides = '{"key_requests_per_minute": 1}' WHERE id = %s""",
        [customer.caller.account_id],
    )
    assert [submit(customer).status_code for _ in range(3)] == [202, 429, 429]
    revoke(customer, database)
    assert refusal(submit(customer)) == (401, "invalid_api_key")


def test_a_wrong_key_with_a_remembered_prefix_is_looked_up_and_refused(
    customer: WebClient, looked_up: list[str], database: psycopg.Connection
) -> None:
    prefix = credentials.prefix_of(customer.key)
    other = customer.using(f"{prefix}_{'x' * 43}")
    assert refusal(submit(other)) == (401, "invalid_api_key")
    assert looked_up == [prefix]
    assert jobs(database) == 1
    # It takes nothing from whoever has the right one.
    assert submit(customer).status_code == 202
    assert looked_up == [prefix]


def test_other_limits_hold_from_the_next_job_on_both_ways(customer: WebClient, database: psycopg.Connection) -> None:
    def override(limits: str) -> None:
        database.execute("UPDATE accounts SET overrides = %s WHERE id = %s", [limits, customer.caller.account_id])

    override('{"models": ["another"]}')
    assert refusal(submit(customer)) == (403, "model_not_allowed")
    assert submit(customer, model="another").status_code == 202
    override("{}")
    assert submit(customer).status_code == 202
    override('{"tokens_per_month": 1}')
    assert refusal(submit(customer)) == (429, "quota_exceeded")
    override('{"tokens_per_month": 1000000000}')
    assert submit(customer).status_code == 202
    assert jobs(database) == 4


def test_a_job_of_another_billing_period_is_held_in_that(customer: WebClient, database: psycopg.Connection) -> None:
    database.execute(
        "UPDATE accounts SET billing_anchor = billing_anchor - interval '3 days' WHERE id = %s",
        [customer.caller.account_id],
    )
    assert submit(customer).status_code == 202
    periods = database.execute("SELECT period_start FROM batches ORDER BY id").fetchall()
    assert periods[0][0] - periods[1][0] == timedelta(days=3)


def test_what_is_not_confirmed_is_stored_for_none_of_a_group_but_for_those_beside_it(
    customer: WebClient, database: psycopg.Connection
) -> None:
    stored: list[Submission] = []
    remembered = keys.remembered(customer.key)
    assert remembered is not None
    assert remembered.remembered is not None
    known = remembered.remembered
    wrong = Remembered(known.prefix, known.version + 1)
    unknown = Remembered("by_00000000", known.version)
    for key in (known, wrong, None, unknown):
        job_id = ids.new_id()
        job = ids.show("job_", job_id), b"{}", 10, 0
        stored.append(Submission(job_id, customer.caller.id, CHAT, "sim", None, *job, remembered=key))
    outcomes = submissions._store(customer.caller.allowance, stored)
    assert [type(outcome) is NotConfirmed for outcome in outcomes] == [False, True, False, True]
    assert jobs(database) == 3


def test_a_key_that_nothing_is_known_against_is_forgotten_when_too_many_are_remembered(
    customer: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_REMEMBERED", 1)
    other = keys.create(accounts.create("Bob", "pro").id, "test")
    assert submit(customer.using(other)).status_code == 202
    assert keys.remembered(customer.key) is None
    assert submit(customer).status_code == 202


def test_a_request_whose_limits_change_is_counted_once_where_they_did_not(
    customer: WebClient, database: psycopg.Connection
) -> None:
    def override(limits: str) -> None:
        database.execute("UPDATE accounts SET overrides = %s WHERE id = %s", [limits, customer.caller.account_id])

    override('{"key_requests_per_minute": 3}')
    assert [submit(customer).status_code for _ in range(2)] == [202, 202]
    override('{"key_requests_per_minute": 3, "tokens_per_month": 1000000000}')
    assert [submit(customer).status_code for _ in range(2)] == [202, 429]
