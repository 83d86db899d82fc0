"""API keys, and the operator's command line that makes, lists and revokes them."""

import hashlib
import hmac
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import psycopg
import pytest
from psycopg import sql

from common import accounts, keys
from common.audit import COMMAND_LINE
from common.errors import AuthenticationFailed
from local.stack import Stack
from tests.conftest import NewCustomer
from tests.customer import Customer, refusal
from tests.process_settings import process_settings

ROOT = Path(__file__).resolve().parents[2]


def flask(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The operator's command line, as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
        cwd=ROOT,
        env={**os.environ, **stack.env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def get(stack: Stack, **headers: str | bytes) -> httpx2.Response:
    sent = [
        (name.replace("_", "-").encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    with httpx2.Client(base_url=stack.base_url, trust_env=False) as http:
        return http.get("/v1/jobs", headers=sent)


def test_the_operator_creates_an_account_and_a_key_that_works_until_it_is_revoked(stack: Stack) -> None:
    account_id = printed(flask(stack, "accounts", "create", "Ann's shop", "--plan", "team"))
    assert re.fullmatch("acct_[0-9a-f]{32}", account_id)
    line = printed(flask(stack, "keys", "create", account_id, "--name", "laptop", "--scopes", "jobs, batches"))
    key = line.split()[-1]
    assert re.fullmatch(r"by_[a-z0-9]{8}_[A-Za-z0-9-]{43}", key)
    assert get(stack, Authorization=f"Bearer {key}").status_code == 200

    listed = printed(flask(stack, "keys", "list", account_id))
    prefix, _, secret = key.rpartition("_")
    assert re.fullmatch(rf"key_[0-9a-f]{{32}}  {prefix}  active   jobs,batches  (never used|\S+Z)  laptop", listed)
    assert secret not in listed

    printed(flask(stack, "keys", "revoke", listed.split()[0]))
    refusal(get(stack, Authorization=f"Bearer {key}"), 401)
    with ThreadPoolExecutor() as threads:
        keys_after, accounts_after = threads.map(
            lambda arguments: printed(flask(stack, *arguments)), [("keys", "list", account_id), ("accounts", "list")]
        )
    assert re.search(rf"{prefix}  revoked  jobs,batches  .*  laptop", keys_after)
    assert f"{account_id}  team  active     Ann's shop" in accounts_after.splitlines()


def test_the_command_line_refuses_in_plain_words(stack: Stack) -> None:
    refused = {
        ("accounts", "create", " "): "name is empty",
        ("keys", "revoke", "key_" + "0" * 32): "There is no API key",
    }
    with ThreadPoolExecutor() as threads:
        ended = threads.map(lambda arguments: flask(stack, *arguments), refused)
    for done, says in zip(ended, refused.values(), strict=True):
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_only_the_prefix_and_a_keyed_hash_are_stored_and_the_key_is_nowhere(
    settings: dict[str, str],
) -> None:
    account = accounts.create("Ann", "pro")
    key = keys.create(account.id, "laptop")
    prefix, _, secret = key.rpartition("_")
    caller = keys.authenticate(key)
    assert caller.account_id == account.id
    with psycopg.connect(settings["DATABASE_URL"]) as connection:
        row = connection.execute("SELECT prefix, secret_hash FROM api_keys").fetchall()
        expected = hmac.digest(settings["SECRET_KEY"].encode(), f"api-key:{prefix}:{secret}".encode(), "sha256")
        assert row == [(prefix, expected)]
        assert hashlib.sha256(key.encode()).digest() != expected
        columns = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        ).fetchall()
        assert ("api_keys", "secret_hash", "bytea") in columns
        for table, column, kind in columns:
            text = "encode({}, 'escape')" if kind == "bytea" else "{}::text"
            query = sql.SQL(f"SELECT count(*) FROM {{}} WHERE {text} LIKE {{}}").format(
                sql.Identifier(table), sql.Identifier(column), sql.Literal(f"%{secret}%")
            )
            assert connection.execute(query).fetchone() == (0,), f"{table}.{column} holds the key"


def test_a_key_is_accepted_in_either_header(stack: Stack, customer: Customer) -> None:
    for headers in (
        {"Authorization": f"Bearer {customer.key}"},
        {"Authorization": f"bearer   {customer.key}"},
        {"X_API_Key": customer.key},
        {"Authorization": "Basic YTpi", "X_API_Key": customer.key},
    ):
        assert get(stack, **headers).status_code == 200, headers


BAD_KEYS: list[str | bytes] = [
    "by_aaaaaaaa_" + "A" * 43,
    "by_aaaaaaaa",
    "by_",
    "_",
    "x",
    "sk-proj-1234567890",
    "'; DROP TABLE api_keys; --",
    "%00",
    "by_aaaaaaaa_" + "A" * 7_000,
    "ключ".encode(),
    b"by_\xff\xfe_\x80",
    "by_aaaaaaaa_é".encode("latin-1"),
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key[:20]))
def test_what_is_no_key_is_refused_without_being_repeated(stack: Stack, key: str | bytes) -> None:
    shown = key if isinstance(key, bytes) else key.encode()
    for headers in ({"Authorization": b"Bearer " + shown}, {"X_API_Key": shown}):
        response = get(stack, **headers)
        error = refusal(response, 401)
        assert error["type"] == "authentication_error"
        assert error["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
        assert len(shown) < 3 or shown not in response.content


@pytest.mark.parametrize("authorization", ["", "Bearer", "Basic YTpi", "by_aaaaaaaa_" + "A" * 43], ids=repr)
def test_a_request_without_a_key_is_told_how_to_send_one(stack: Stack, authorization: str) -> None:
    error = refusal(get(stack, Authorization=authorization), 401)
    assert error["code"] == "missing_api_key"
    assert "Authorization: Bearer" in error["message"]


def test_a_key_with_any_character_changed_is_refused(stack: Stack, new_customer: NewCustomer) -> None:
    key = new_customer().key
    prefix, _, secret = key.rpartition("_")
    changed = [f"{prefix}_{secret[:-1]}", f"{prefix}_{secret}A", f"{prefix}_{secret.swapcase()}", f"{prefix}x_{secret}"]
    for wrong in (*changed, key.upper(), f"{key}\u00a0"):
        refusal(get(stack, Authorization=f"Bearer {wrong}".encode()), 401)
    assert get(stack, Authorization=f"Bearer {key}").status_code == 200


def test_a_key_that_is_expired_or_revoked_looks_like_one_that_never_was(stack: Stack) -> None:
    with process_settings(stack.env):
        account = accounts.create("Bea", "free")
        now = datetime.now(UTC)
        expired = keys.create(account.id, "old", expires_at=now + timedelta(hours=1))
        fresh = keys.create(account.id, "new", expires_at=now + timedelta(hours=1))
        revoked = keys.create(account.id, "lost")
        assert get(stack, Authorization=f"Bearer {revoked}").status_code == 200
        by_name = {key.name: key for key in keys.list_page(COMMAND_LINE, account.id, None, 10)}
        keys.revoke(COMMAND_LINE, account.id, by_name["lost"].shown_id)
        with psycopg.connect(stack.env["DATABASE_URL"]) as owner:
            owner.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", [by_name["old"].id])
    unknown = "by_aaaaaaaa_" + "A" * 43
    errors = [refusal(get(stack, Authorization=f"Bearer {key}"), 401) for key in (expired, revoked, unknown)]
    assert errors == [errors[0]] * 3
    assert get(stack, Authorization=f"Bearer {fresh}").status_code == 200


def test_a_key_without_the_scope_is_refused_naming_the_scope(stack: Stack) -> None:
    with process_settings(stack.env):
        key = keys.create(accounts.create("Cy", "free").id, "batches only", ("batches",))
    error = refusal(get(stack, Authorization=f"Bearer {key}"), 403)
    assert error["code"] == "scope_missing"
    assert "'jobs'" in error["message"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/job_1", "/v1/batches", "/v1/batches/batch_1/results"])
def test_nothing_is_said_to_who_has_no_key(stack: Stack, path: str) -> None:
    with httpx2.Client(base_url=stack.base_url, trust_env=False) as http:
        refusal(http.get(path), 401)


def test_a_key_opens_nothing_under_another_secret(settings: dict[str, str]) -> None:
    key = keys.create(accounts.create("Ann", "pro").id, "laptop")
    other = settings | {"SECRET_KEY": "another secret of 32 characters!!"}
    with process_settings(other), pytest.raises(AuthenticationFailed):
        keys.authenticate(key)
    assert keys.authenticate(key).plan == "pro"
