"""/v1/admin and the command line: what operators do to accounts, keys and the platform, each act written down."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from click.testing import Result

from common import ids, keys, queue
from local.stack import Stack
from tests import work
from tests.customer import Customer, answer
from tests.databases import one
from tests.process_settings import process_settings
from tests.web_client import WebClient, refused
from tests.work import take

UNKNOWN = "acct_" + "0" * 32


@pytest.fixture
def operator(web: WebClient) -> WebClient:
    """An operator's key."""
    return WebClient(scopes=keys.SCOPES)


@pytest.fixture
def flask(web: WebClient) -> Callable[..., Result]:
    """The command line, in the test's own process."""

    def run(*arguments: str) -> Result:
        return web.app.test_cli_runner().invoke(args=arguments)

    return run


def account_id(web: WebClient) -> str:
    return ids.show("acct_", web.caller.account_id)


def done(response: Any, status: int = 200) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.get_json()
    return found


def change(operator: WebClient, of: WebClient, **fields: Any) -> dict[str, Any]:
    return done(operator.patch(f"/v1/admin/accounts/{account_id(of)}", json=fields))


def acts(operator: WebClient, of: WebClient | None = None) -> list[dict[str, Any]]:
    """What the audit log has, oldest first."""
    query = {"account_id": account_id(of)} if of is not None else {}
    found: list[dict[str, Any]] = done(operator.get("/v1/admin/audit_log", limit=100, **query))["data"]
    return found[::-1]


def test_the_local_stack_has_an_operators_key(stack: Stack) -> None:
    with Customer(stack.base_url, stack.env["ADMIN_API_KEY"]) as admin:
        assert answer(admin.get("/v1/admin/platform"))["status"] == "running"
        names = {account["name"] for account in answer(admin.get("/v1/admin/accounts", limit=100))["data"]}
    assert {"Local pro", "Local free", "Local team", "Local operator"} <= names


def test_without_the_scope_admin_no_operators_view_is_served(web: WebClient) -> None:
    rules = [rule for rule in web.app.url_map.iter_rules() if rule.rule.startswith("/v1/admin")]
    assert len(rules) >= 15
    for rule in rules:
        path = rule.rule.replace("<account_id>", account_id(web)).replace("<key_id>", "key_1")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            response = web.request(method, path, json={})
            assert refused(response, 403)["code"] == "scope_missing", rule
            assert "'admin'" in response.text


def test_an_account_is_made_listed_and_shown(operator: WebClient) -> None:
    made = done(operator.post("/v1/admin/accounts", json={"name": "Acme", "plan": "team"}), 201)
    assert (made["name"], made["plan"], made["status"], made["limits"]) == ("Acme", "team", "active", {})
    assert (made["soft_cap"], made["hard_cap"]) == (None, None)
    assert done(operator.get(f"/v1/admin/accounts/{made['id']}")) == made
    page = done(operator.get("/v1/admin/accounts", limit=1))
    assert page["data"] == [made]
    rest = done(operator.get("/v1/admin/accounts", limit=100, after=made["id"]))
    assert made["id"] not in [account["id"] for account in rest["data"]]


def test_an_accounts_plan_limits_and_caps_hold_from_the_next_request_on(operator: WebClient, web: WebClient) -> None:
    changed = change(
        operator, web, plan="team", limits={"max_rows": 7, "models": ["sim*"]}, hard_cap="12.5", soft_cap="10"
    )
    assert (changed["plan"], changed["limits"]) == ("team", {"max_rows": 7, "models": ["sim*"]})
    assert changed["hard_cap"] == {"usd": "12.5", "nano_usd": 12_500_000_000}
    found = keys.authenticate(web.key)
    assert (found.plan, found.limits.max_rows, found.limits.models) == ("team", 7, ("sim*",))
    assert found.hard_cap == 12_500_000_000

    changed = change(operator, web, limits={"max_rows": None, "max_file_bytes": 100}, hard_cap=None)
    assert changed["limits"] == {"max_file_bytes": 100, "models": ["sim*"]}
    assert (changed["hard_cap"], changed["soft_cap"]["usd"]) == (None, "10")
    assert keys.authenticate(web.key).hard_cap is None
    assert change(operator, web) == changed


BAD_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"plan": "gold"}, "plan"),
    ({"name": " "}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"limits": {"weight": 5}}, "limits.weight"),
    ({"limits": {"max_rows": 0}}, "limits.max_rows"),
    ({"limits": {"max_rows": 10**30}}, "limits.max_rows"),
    ({"limits": {"max_rows": "7"}}, "limits.max_rows"),
    ({"limits": {"max_rows": 7.5}}, "limits.max_rows"),
    ({"limits": {"models": ["a\0b"]}}, "limits"),
    ({"limits": {"'; DROP TABLE accounts; --": 1}}, "limits.'; DROP TABLE accounts; --"),
    ({"limits": 7}, "limits"),
    ({"hard_cap": 12.5}, "hard_cap"),
    ({"hard_cap": "0"}, "hard_cap"),
    ({"hard_cap": "-1"}, "hard_cap"),
    ({"hard_cap": "1e3"}, "hard_cap"),
    ({"hard_cap": "0.0000000001"}, "hard_cap"),
    ({"hard_cap": "1000000000"}, "hard_cap"),
    ({"hard_cap": "١٢"}, "hard_cap"),
    ({"hard_cap": "1" * 5_000}, "hard_cap"),
    ({"soft_cap": "NaN"}, "soft_cap"),
    ({"billing_anchor": 1}, "billing_anchor"),
    ({"state": "suspended"}, "state"),
]


def test_a_change_that_cannot_be_is_refused_and_changes_nothing(operator: WebClient, web: WebClient) -> None:
    path = f"/v1/admin/accounts/{account_id(web)}"
    before = done(operator.get(path))
    for fields, param in BAD_CHANGES:
        error = refused(operator.patch(path, json={"plan": "team"} | fields), 400)
        assert error["param"] == param, fields
    assert done(operator.get(path)) == before
    assert "account.change" not in [act["action"] for act in acts(operator, web)]


def test_an_account_that_is_none_is_not_found(operator: WebClient) -> None:
    for shown in (UNKNOWN, "acct_", "x", "%00", "key_" + "0" * 32):
        path = f"/v1/admin/accounts/{shown}"
        sent = {"name": "a", "scopes": ["jobs"]}
        refused(operator.get(path), 404)
        refused(operator.patch(path, json={"plan": "team"}), 404)
        refused(operator.post(f"{path}/suspend", json={"reason": "x"}), 404)
        refused(operator.post(f"{path}/resume"), 404)
        refused(operator.post(f"{path}/api_keys", json=sent), 404)
        refused(operator.get(f"{path}/api_keys"), 404)
        refused(operator.delete(f"{path}/api_keys/key_1"), 404)
        refused(operator.request("GET", f"/v1/admin/audit_log?account_id={shown}"), 404)
        refused(operator.request("GET", f"/v1/admin/paused_batches?account_id={shown}"), 404)


def test_an_operator_makes_lists_and_revokes_the_keys_of_an_account(operator: WebClient, web: WebClient) -> None:
    path = f"/v1/admin/accounts/{account_id(web)}/api_keys"
    made = done(operator.post(path, json={"name": "theirs", "scopes": ["jobs"]}), 201)
    assert keys.authenticate(made["key"]).account_id == web.caller.account_id
    listed = done(operator.get(path))["data"]
    assert [key["name"] for key in listed] == ["theirs", "test"]
    assert made["key"] not in json.dumps(listed)
    assert done(operator.delete(f"{path}/{made['id']}"))["status"] == "revoked"
    refused(web.using(made["key"]).get("/v1/jobs"), 401)
    # A key under another account than its own is none.
    other = f"/v1/admin/accounts/{account_id(operator)}/api_keys/{made['id']}"
    refused(operator.delete(other), 404)


def test_every_act_stands_in_the_audit_log_with_who_did_it_and_when(operator: WebClient, web: WebClient) -> None:
    base = f"/v1/admin/accounts/{account_id(web)}"
    change(operator, web, plan="team", hard_cap="5")
    change(operator, web, plan="team")
    done(operator.post(f"{base}/suspend", json={"reason": "unpaid"}))
    done(operator.post(f"{base}/suspend", json={"reason": "again"}))
    done(operator.post(f"{base}/resume"))
    found = [(act["action"], act["details"]) for act in acts(operator, web)][2:]
    assert found == [
        ("account.change", {"plan": {"from": "pro", "to": "team"}, "hard_cap": {"from": None, "to": 5_000_000_000}}),
        ("account.suspend", {"reason": "unpaid"}),
        ("account.resume", {}),
    ]
    done(operator.post("/v1/admin/platform/stop", json={"reason": "an invoice"}))
    done(operator.patch("/v1/admin/platform", json={"hard_cap": "100"}))
    done(operator.post("/v1/admin/platform/resume"))
    of_platform = [act for act in acts(operator) if act["action"].startswith("platform.")]
    assert [act["action"] for act in of_platform] == ["platform.stop", "platform.change", "platform.resume"]
    for act in of_platform:
        assert act["actor"] == f"key_{operator.caller.key_id.hex}"
        assert act["account_id"] is None
    first = done(operator.get("/v1/admin/audit_log", limit=2))
    second = done(operator.get("/v1/admin/audit_log", limit=100, after=first["last_id"]))
    assert [act["id"] for act in first["data"] + second["data"]] == [act["id"] for act in acts(operator)[::-1]]


def test_what_stands_in_the_audit_log_no_web_process_can_change(web: WebClient, settings: dict[str, str]) -> None:
    with psycopg.connect(settings["WEB_DATABASE_URL"], autocommit=True) as connection:
        for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "SELECT * FROM audit_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_an_act_that_fails_leaves_no_word_of_it(
    operator: WebClient, web: WebClient, database: psycopg.Connection
) -> None:
    # The database refuses the change behind the word of it.
    database.execute("ALTER TABLE accounts ADD CHECK (plan <> 'team') NOT VALID")
    before = len(acts(operator))
    assert operator.patch(f"/v1/admin/accounts/{account_id(web)}", json={"plan": "team"}).status_code == 500
    assert len(acts(operator)) == before


def test_an_act_under_an_idempotency_key_is_done_once_and_answered_twice(
    operator: WebClient, web: WebClient, database: psycopg.Connection
) -> None:
    base = f"/v1/admin/accounts/{account_id(web)}"
    work.bulk(web.caller, 3)
    for path, sent in (
        ("/v1/admin/accounts", {"name": "Acme"}),
        (f"{base}/api_keys", {"name": "theirs", "scopes": ["jobs"]}),
        (f"{base}/suspend", {"reason": "unpaid"}),
        ("/v1/admin/platform/stop", {"reason": "an invoice"}),
    ):
        headers = {"Idempotency-Key": path}
        first, again = (operator.post(path, headers=headers, json=sent) for _ in range(2))
        assert first.status_code in (200, 201), first.text
        assert (again.status_code, again.get_json()) == (first.status_code, first.get_json())
    done_once = ["account.create", "key.create", "account.suspend", "platform.stop"]
    assert [act["action"] for act in acts(operator)][-4:] == done_once
    assert one(database, "SELECT state, paused_reason FROM batches") == ("paused", "account_suspended")


def test_the_platform_is_stopped_with_a_reason_capped_and_resumed(operator: WebClient) -> None:
    stopped = done(operator.post("/v1/admin/platform/stop", json={"reason": "an invoice"}))
    assert (stopped["status"], stopped["stopped_reason"]) == ("stopped", "an invoice")
    again = done(operator.post("/v1/admin/platform/stop", json={"reason": "still"}))
    assert (again["stopped_at"], again["stopped_reason"]) == (stopped["stopped_at"], "still")
    capped = done(operator.patch("/v1/admin/platform", json={"hard_cap": "1000.000000001"}))
    assert capped["hard_cap"] == {"usd": "1000.000000001", "nano_usd": 1_000_000_000_001}
    assert capped["spent"]["usd"] == "0"
    resumed = done(operator.post("/v1/admin/platform/resume"))
    assert (resumed["status"], resumed["stopped_at"], resumed["stopped_reason"]) == ("running", None, None)
    assert done(operator.patch("/v1/admin/platform", json={"hard_cap": None}))["hard_cap"] is None
    for sent in ({}, {"reason": ""}, {"reason": "x" * 501}, {"reason": "a\0"}, {"reason": 5}):
        refused(operator.post("/v1/admin/platform/stop", json=sent), 400)
    for sent in ({}, {"hard_cap": "0"}, {"hard_cap": 5}):
        refused(operator.patch("/v1/admin/platform", json=sent), 400)


def test_what_was_spent_in_a_month_that_is_over_counts_no_more(
    operator: WebClient, database: psycopg.Connection
) -> None:
    database.execute("UPDATE platform SET spent = 7, month = date_trunc('month', now(), 'UTC')")
    assert done(operator.get("/v1/admin/platform"))["spent"]["nano_usd"] == 7
    database.execute("UPDATE platform SET month = date_trunc('month', now(), 'UTC') - interval '1 month'")
    assert done(operator.get("/v1/admin/platform"))["spent"]["nano_usd"] == 0


def test_queue_depths_tell_what_waits_on_each_plan(operator: WebClient, web: WebClient) -> None:
    work.bulk(web.caller, 30)
    work.single(web.caller)
    work.single(work.caller("pro"))
    work.single(work.caller("free"))
    queue.announce_work("pro")
    (claim, *_) = take("pro", 1)
    assert len(claim.jobs) == 1
    found = done(operator.get("/v1/admin/queues"))
    assert found["redis"] == "ok"
    assert [plan["plan"] for plan in found["plans"]] == ["free", "pro", "team"]
    free, pro, team = found["plans"]
    assert (pro["pending_rows"], pro["running_rows"], pro["tickets"]) == (31, 1, 3)
    assert pro["accounts_waiting"] in (1, 2)
    assert (free["pending_rows"], free["accounts_waiting"], free["tickets"]) == (1, 1, 1)
    assert (team["pending_rows"], team["accounts_waiting"], team["running_rows"]) == (0, 0, 0)
    assert found["tasks"] == {"ingests": 0, "tasks": 0}


def test_without_redis_the_depths_are_told_and_the_tickets_are_unknown(env: dict[str, str]) -> None:
    with process_settings(env | {"REDIS_URL": "redis://127.0.0.1:9/0"}):
        operator = WebClient(scopes=keys.SCOPES)
        work.single(operator.caller)
        found = done(operator.get("/v1/admin/queues"))
        assert found["redis"] == "does not answer"
        assert [plan["tickets"] for plan in found["plans"]] == [None] * 3
        assert found["tasks"] == {"ingests": None, "tasks": None}
        assert found["plans"][1]["pending_rows"] == 1
        # What an operator does is done all the same; the sweep makes up for the tickets.
        assert change(operator, operator, plan="team")["plan"] == "team"
        listed = operator.app.test_cli_runner().invoke(args=["queues", "list"])
        assert "Redis does not answer" in listed.output
        assert "team  1 pending, 1 accounts, 0 running, ? tickets" in listed.output


def test_the_command_line_does_what_the_api_does(
    operator: WebClient, web: WebClient, flask: Callable[..., Result], database: psycopg.Connection
) -> None:
    shown = account_id(web)
    assert "state     active" in flask("accounts", "show", shown).output
    out = flask(
        "accounts", "change", shown, "--plan", "team", "--limit", "max_rows=9", "--limit", 'models=["sim"]',
        "--hard-cap", "12.5", "--soft-cap", "3", "--name", "Acme",
    ).output  # fmt: skip
    for line in ("name      Acme", "plan      team", 'limits    {"models":["sim"],"max_rows":9}', "hard cap  $12.5"):
        assert line in out
    out = flask("accounts", "change", shown, "--limit", "models=", "--hard-cap", "none").output
    assert 'limits    {"max_rows":9}' in out
    assert "hard cap  none" in out

    work.single(keys.authenticate(web.key))
    assert "state     suspended" in flask("accounts", "suspend", shown, "--reason", "unpaid").output
    assert f"{shown}  account_suspended  20" in flask("queues", "paused").output
    assert "state     active" in flask("accounts", "resume", shown).output
    assert flask("queues", "paused").output == ""
    assert "team  1 pending, 1 accounts, 0 running, 4 tickets" in flask("queues", "list").output

    key = flask("keys", "create", shown, "--expires-in", "12h", "--scopes", "jobs").output.strip()
    (listed,) = [line for line in flask("keys", "list", shown).output.splitlines() if key.rpartition("_")[0] in line]
    new = flask("keys", "rotate", listed.split()[0], "--overlap", "0s").output.strip()
    assert keys.authenticate(new).account_id == web.caller.account_id
    listing = flask("keys", "list", shown).output
    assert f"{key.rpartition('_')[0]}  expired" in listing
    assert f"{new.rpartition('_')[0]}  active " in listing

    assert flask("platform", "stop", "--reason", "an invoice").output.startswith("stopped since 20")
    assert "hard cap $7," in flask("platform", "cap", "7").output
    assert flask("platform", "resume").output.startswith("running")
    assert flask("platform", "show").output.startswith("running\nhard cap $7, spent since 20")
    listing = flask("audit", "list", "--account", shown, "--limit", "2").output
    assert [line.split()[1:5] for line in listing.splitlines()] == [
        ["command", "line", "key.rotate", shown], ["command", "line", "key.create", shown],
    ]  # fmt: skip
    assert "platform.stop" in flask("audit", "list").output


def test_the_command_line_refuses_in_one_line(web: WebClient, flask: Callable[..., Result]) -> None:
    shown = account_id(web)
    refused_lines = {
        ("accounts", "show", UNKNOWN): "no such account",
        ("accounts", "change", shown, "--plan", "gold"): "no plan 'gold'",
        ("accounts", "change", shown, "--limit", "max_rows=many"): "max_rows is 'many'",
        ("accounts", "change", shown, "--limit", "weight=2"): "'weight' is no limit",
        ("accounts", "change", shown, "--hard-cap", "12,50"): "an amount in dollars",
        ("accounts", "change", shown, "--hard-cap", "0"): "more than nothing",
        ("keys", "create", shown, "--expires-in", "soon"): "'soon' is no time",
        ("keys", "create", shown, "--expires-in", "9999d"): "expires",
        ("keys", "create", shown, "--name", "\x1b[2J"): "control character",
        ("keys", "create", shown, "--scopes", "all"): "Scopes are",
        ("keys", "rotate", "key_" + "0" * 32): "no API key",
        ("keys", "rotate", f"key_{web.caller.key_id.hex}", "--overlap", "8d"): "from 0 to",
        ("platform", "cap", "free"): "an amount in dollars",
        ("audit", "list", "--account", "x"): "no such account",
    }
    for arguments, says in refused_lines.items():
        ended = flask(*arguments)
        assert ended.exit_code == 1, arguments
        assert ended.output.startswith("Error: ")
        assert says in ended.output
