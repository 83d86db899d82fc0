"""schemathesis sends what the OpenAPI document allows, and what it does not, to every operation of a running Batchyard.

It makes all its checks on every answer: no 5xx, no status, header, media type or field that is not documented, nothing
refused that the document allows and nothing taken that it does not, no operation without its key, nothing of an account
shown to another. The suite sends the same requests each time; with OPENAPI_EXAMPLES, which says how many examples each
operation has in each phase, they are others each time. A failure prints the request as a curl command.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection

from common import accounts, ids, invitations, keys, members, sessions, users
from common.database import as_owner
from common.plans import MOST_OUTPUT_TOKENS
from common.sessions import NewSession
from common.users import User
from local.process import ROOT
from local.stack import Stack
from tests import databases
from tests.conftest import redis_database
from tests.customer import Customer, answer
from tests.process_settings import process_settings

EXAMPLES = os.environ.get("OPENAPI_EXAMPLES")
FEW_EXAMPLES, SEED = "3", "1"
SECONDS = 60 * 60
CHAT = "/v1/chat/completions"
# A name that nobody has (RFC 2606), so that whoever delivers there reaches nobody.
HOOK = "https://hooks.example.invalid/"
# Where a request that the document allows may mean nothing all the same: ranges that end before they begin, moments
# that are over, limits and plans by their names, pages that no answer has named, and pages of a download.
BEYOND_SCHEMAS = (
    "/v1/batches/{batch_id}/results",
    "/v1/usage",
    "/v1/api_keys",
    "/v1/api_keys/{key_id}/rotate",
    "/v1/admin/accounts",
    "/v1/admin/accounts/{account_id}",
    "/v1/admin/accounts/{account_id}/api_keys",
    "/v1/billing/checkout",
    "/v1/billing/plan",
    "/v1/webhook_deliveries/replay",
    "/auth/verify-email",
    "/auth/password/reset",
    "/auth/email/confirm",
    "/auth/invitations/accept",
    "/auth/invitations/offered",
    "/auth/invitations/sign-up",
)
# GET or DELETE of these is the batch "estimate", the delivery "replay" and the invitations "accept" and so on.
LIKE_AN_ID = (
    "/v1/batches/estimate",
    "/v1/webhook_deliveries/replay",
    "/auth/invitations/accept",
    "/auth/invitations/offered",
    "/auth/invitations/sign-up",
)
# All that a customer's key can have.
CUSTOMERS = keys.SCOPES[:-1]
# With the token of somebody else, for they end what they are sent with.
ENDS_SESSIONS = ("/auth/log-out", "/auth/log-out-everywhere")


class Caller:
    """Who sends requests: a key and its account."""

    def __init__(self, stack: Stack, name: str, scopes: tuple[str, ...] = CUSTOMERS) -> None:
        with process_settings(stack.env):
            account = accounts.create(name, "pro")
            key = keys.create(account.id, name, scopes)
            self.ids = [account.shown_id, ids.show("key_", keys.authenticate(key).key_id)]
        self.customer = Customer(stack.base_url, key)


@pytest.fixture
def own_stack(services: Stack, tmp_path: Path) -> Iterator[Stack]:
    """Batchyard for this test alone, which stops all its calls and suspends its accounts."""
    # As many wrong keys as this sends, no customer does.
    settings = {"REDIS_URL": redis_database(services, 4), "ADDRESS_FAILURES_PER_MINUTE": "1000000"}
    with (
        databases.cloned(services) as urls,
        Stack(tmp_path / "home", extra_env=urls | settings, durable=False, keep=False) as running,
    ):
        yield running


@pytest.fixture
def callers(own_stack: Stack) -> Iterator[list[Caller]]:
    """Two customers and an operator. Whatever their limits refuse would tell nothing of the rest."""
    made = [Caller(own_stack, "ann"), Caller(own_stack, "bob"), Caller(own_stack, "operator", keys.SCOPES)]
    limits = {"max_output_tokens": MOST_OUTPUT_TOKENS, "tokens_per_month": 2**53, "max_queued_tokens": 2**53}
    with psycopg.connect(own_stack.env["DATABASE_URL"], autocommit=True) as database:
        database.execute("UPDATE accounts SET overrides = %s::jsonb", [json.dumps(limits)])
    yield made
    for caller in made:
        caller.customer.http.close()


def identity(name: str, credential: str) -> dict[str, Any]:
    """Who sends requests, as schemathesis wants it. It tries one after the other where an operation refuses them."""
    return {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {credential}"}]}


class People:
    """An account of people: the access tokens of its owner and of a member, and the ids that paths may name."""

    def __init__(self, stack: Stack) -> None:
        with process_settings(stack.env):
            with as_owner() as connection:
                owner, member, other = (
                    _stored(users.store_verified(connection, f"{name}@example.com", None))
                    for name in ("owner", "member", "other")
                )
                account_id = users.open_account(connection, owner.id, "People")
                for user in (member, other):
                    members.join(connection, account_id, user.id, "developer")
                began = [_begun(connection, user) for user in (owner, member, owner)]
            actor = sessions.of_access_token(began[0].access_token).actor
            invited = [
                invitations.make(actor, account_id, f"{name}@example.com", "billing", "the owner").shown_id
                for name in ("one", "two")
            ]
            self.owner, self.member = (session.access_token for session in began[:2])
        self.ids = {
            "user_id": [users.shown_id(user.id) for user in (owner, other)],
            "session_id": [ids.show("sess_", began[2].id)],
            "invitation_id": invited,
        }


def _stored(user: User | None) -> User:
    assert user is not None
    return user


def _begun(connection: Connection, user: User) -> NewSession:
    session = sessions.begin(connection, user.id, user.version, "127.0.0.1", page=False)
    assert session is not None
    return session


def known(customer: Customer, operator: Customer) -> dict[str, list[str]]:
    """Ids of an account, by the parameters of paths that take them, and of accounts that are another's."""
    job = customer.submit({"model": "sim", "prompt": "Say hello."}, wait=30)
    requests = [
        {"custom_id": name, "body": {"model": name, "messages": [{"role": "user", "content": "Say hello."}]}}
        for name in ("sim", "sim-400")
    ]
    sent = {"endpoint": CHAT, "requests": requests}
    ended = customer.ended_batch(answer(customer.post("/v1/batches", sent))["id"])
    csv = customer.ended_batch(customer.create_batch(b"text\na\nb\n")["id"])
    refused = customer.ended_batch(answer(customer.post("/v1/batches", {"endpoint": CHAT, "requests": [1]}))["id"])
    key = answer(customer.post("/v1/api_keys", {"name": "another", "scopes": ["jobs"]}))
    endpoints = [answer(customer.post("/v1/webhook_endpoints", {"url": HOOK})) for _ in range(3)]
    samples = [answer(customer.post(f"/v1/webhook_endpoints/{endpoint['id']}/test", {})) for endpoint in endpoints]
    accounts = [answer(operator.post("/v1/admin/accounts", {"name": name})) for name in ("one", "two")]
    return {
        "account_id": [account["id"] for account in accounts],
        "job_id": [job["id"], customer.submit({"model": "sim-latency-2s", "prompt": "Wait."})["id"]],
        "batch_id": [ended["id"], csv["id"], refused["id"]],
        "file_id": [ended["output_file_id"], ended["error_file_id"], csv["input_file_id"]],
        "model_id": ["sim"],
        "key_id": [key["id"]],
        "endpoint_id": [endpoint["id"] for endpoint in endpoints],
        "delivery_id": [delivery["id"] for delivery in samples],
    }


def configuration(folder: Path, callers: list[Caller], people: People) -> Path:
    ann, bob, operator = (caller.customer for caller in callers)
    credentials = {"ann": ann.key, "owner": people.owner, "bob": bob.key, "operator": operator.key}
    (folder / "keys.json").write_text(json.dumps({"auth": [identity(*item) for item in credentials.items()]}))
    found = known(ann, operator) | people.ids
    allowed = ["2xx", 401, 403, 404, 409, 429]
    lines = [
        f"hooks = {json.dumps(str(ROOT / 'tests' / 'openapi_hooks.py'))}",
        "[auth.wfc]",
        f"path = {json.dumps(str(folder / 'keys.json'))}",
        'peers = ["ann", "bob"]',
        "[dictionaries]",
        *(f"{name} = {{ values = {json.dumps(values)} }}" for name, values in found.items()),
        "[parameters]",
        *(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.5 }}' for name in found),
        # An Idempotency-Key that has come with another request is what no schema knows.
        "[checks.positive_data_acceptance]",
        f"expected-statuses = {json.dumps([*allowed, 422])}",
        "[[operations]]",
        f"include-path = {json.dumps(BEYOND_SCHEMAS)}",
        f"checks.positive_data_acceptance.expected-statuses = {json.dumps([*allowed, 400, 422])}",
        "[[operations]]",
        'include-path-regex = "^/v1/admin/"',
        f'headers = {{ Authorization = "Bearer {operator.key}" }}',
        "[[operations]]",
        f"include-path = {json.dumps(ENDS_SESSIONS)}",
        f'headers = {{ Authorization = "Bearer {people.member}" }}',
        # Every check is made unless it is named here.
        "[[operations]]",
        f"include-path = {json.dumps(LIKE_AN_ID)}",
        "checks.allow_header_conformance.enabled = false",
    ]
    path = folder / "schemathesis.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_no_request_gets_an_answer_that_is_not_documented(
    own_stack: Stack, callers: list[Caller], tmp_path: Path
) -> None:
    settings = configuration(tmp_path, callers, People(own_stack))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "--no-color"),
        *("run", f"{own_stack.base_url}/openapi.json", "--continue-on-failure"),
        *("--max-examples", EXAMPLES or FEW_EXAMPLES, *(() if EXAMPLES else ("--seed", SEED))),
        # Python 3.11 cannot parse in two threads at once, which hypothesis does.
        *("--workers", "1"),
    ]
    spared = ",".join(shown_id for caller in callers for shown_id in caller.ids)
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"SPARED_IDS": spared},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(run.stdout, run.stderr)
    assert run.returncode == 0
    assert (found := re.search(r"(\d+) generated", run.stdout))
    assert int(found[1]) >= 1_000
