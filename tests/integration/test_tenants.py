"""No request reaches what is another account's: not by any route's id, not by an id in a body or a query, and not even
when the application forgets whose it asks for."""

import importlib
import io
import pkgutil
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import TextClause, text
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

import common
from common import accounts, batches, files, ids, jobs, keys, webhook_deliveries, webhook_endpoints
from common.audit import COMMAND_LINE
from common.keys import Caller
from common.webhook_deliveries import Delivery, Wanted
from common.webhook_events import EVENT_TYPES
from tests import work
from tests.people import Visitor, signed_up
from tests.process_settings import process_settings
from tests.web_client import WebClient, own_logging, refused
from web.auth import ACCESS
from worker.outcomes import record

# What a route takes in its body before it looks for what its path names.
BODIES: dict[str, dict[str, Any]] = {
    "api_keys.rotate": {},
    "batches.update": {"max_cost": "1"},
    "webhook_endpoints.update": {"name": "mine"},
    "webhook_endpoints.rotate_secret": {},
    "webhook_endpoints.test": {},
}
# Of these the path is no account's: a model is the same for all.
SHARED_ARGUMENTS = frozenset({"model_id"})


@dataclass(frozen=True)
class Tenant:
    """An account with one of everything; `ids` are shown ids by what they name, single jobs and rows apart."""

    caller: Caller
    ids: dict[str, str]


def tenant() -> Tenant:
    """A batch of one file that has ended, one that waits, a finished job, one that waits, two keys, and an endpoint
    that was told of what ended."""
    of = work.caller()
    endpoint = webhook_endpoints.create(
        COMMAND_LINE, of.account_id, {"url": "https://example.com", "event_types": EVENT_TYPES}
    ).endpoint
    content = (
        b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "sim", "prompt": "Hi"}}\n'
    )
    file = files.create(of, "requests.jsonl", io.BytesIO(content), None)
    ended = work.requests(of, [work.request(0), work.request(1)])
    finished_job = work.single(of)
    for claim in work.all_claims():
        record([work.outcome(claim, job.seq, "failed" if job.seq else "succeeded") for job in claim.jobs])
    waiting, waiting_job = work.bulk(of, 2), work.single(of)
    batch = batches.get(of.account_id, ids.show("batch_", ended))
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    another_key = keys.issue(COMMAND_LINE, of.account_id, "another", ("jobs",)).key
    found = {
        "account": ids.show("acct_", of.account_id),
        "key": ids.show("key_", of.key_id),
        "another key": another_key.shown_id,
        "input file": file.shown_id,
        "output file": ids.show("file-", batch.output_file_id),
        "error file": ids.show("file-", batch.error_file_id),
        "ended batch": batch.shown_id,
        "waiting batch": ids.show("batch_", waiting),
        "finished job": ids.show("job_", finished_job),
        "waiting job": ids.show("job_", waiting_job),
        "endpoint": endpoint.shown_id,
        "delivery": sent(of)[0].shown_id,
        "row": f"{ids.show('job_', ended)}_0",
    }
    return Tenant(of, found)


def sent(of: Caller) -> Sequence[Delivery]:
    """The deliveries of an account."""
    return webhook_deliveries.list_page(COMMAND_LINE, of.account_id, Wanted(), None, 100)


def routes(web: WebClient, *, of_people: bool = False) -> Iterator[tuple[Rule, str]]:
    """Every route with something in its path that keys may call, or of the API that only people may, with each of its
    methods."""
    for rule in web.app.url_map.iter_rules():
        access = getattr(web.app.view_functions[rule.endpoint], ACCESS, None)
        if rule.arguments - SHARED_ARGUMENTS and access is not None and access.keys != of_people:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method


def ask(web: WebClient, rule: Rule, method: str, named: str) -> TestResponse:
    """Every part of the path names the same thing."""
    path = re.sub(r"<[^>]+>", named, rule.rule)
    body = BODIES.get(rule.endpoint.removeprefix("unversioned-"))
    return web.request(method, path, json=body) if body is not None else web.request(method, path)


def like(shown: str) -> str:
    """An id of the same kind that names nothing."""
    return re.sub("[0-9a-f]{32}", "0" * 32, shown)


def told(response: TestResponse, shown: str) -> tuple[object, ...]:
    """All that an answer says, but for the id that was asked for and what differs from one request to the next."""
    own = ("x-request-id", "date", "ratelimit", "x-ratelimit")
    headers = {name: value for name, value in response.headers if not name.lower().startswith(own)}
    return response.status_code, response.text.replace(shown, "ID"), headers


@pytest.fixture
def theirs(settings: dict[str, str]) -> Tenant:
    return tenant()


def test_every_route_answers_for_what_is_another_accounts_as_for_what_is_nowhere(
    web: WebClient, theirs: Tenant
) -> None:
    asked = 0
    for rule, method in routes(web):
        for kind, shown in theirs.ids.items():
            response = ask(web, rule, method, shown)
            if rule.endpoint.removeprefix("unversioned-").startswith("admin-"):
                assert refused(response, 403)["code"] == "scope_missing"
            else:
                error = refused(response, 404)
                assert error["type"] == "not_found_error", (method, rule, kind)
            unknown = ask(web, rule, method, like(shown))
            assert told(response, shown) == told(unknown, like(shown)), (method, rule, kind)
            asked += 1
    assert asked > 100


def test_nothing_of_it_was_changed_by_all_that(web: WebClient, theirs: Tenant, settings: dict[str, str]) -> None:
    before = all_of(theirs)
    for rule, method in routes(web):
        for shown in theirs.ids.values():
            ask(web, rule, method, shown)
    assert all_of(theirs) == before


def test_a_person_finds_what_is_another_accounts_nowhere_and_changes_nothing_of_it(
    web: WebClient, theirs: Tenant
) -> None:
    mine, other = signed_up(web.app, "ann@example.com"), signed_up(web.app, "bob@example.com")
    assert other.post("/auth/invitations", {"email": "eve@example.com", "role": "developer"}).status_code == 201
    before = people_of(other)
    named = set(re.findall(r"[a-z]+_[0-9a-f]{32}", before)) | set(theirs.ids.values())
    assert {shown.partition("_")[0] for shown in named} >= {"user", "acct", "sess", "inv"}
    asked = set()
    for rule, method in routes(web, of_people=True):
        body = {"role": "developer"} if method == "PATCH" else None
        for shown in named:
            answers = [
                told(mine.request(method, re.sub(r"<[^>]+>", tried, rule.rule), body), tried)
                for tried in (shown, like(shown))
            ]
            assert answers[0] == answers[1], (method, rule, shown)
            assert answers[0][0] == 404, (method, rule, shown)
        asked.add(rule.rule)
    assert len(asked) >= 4
    assert people_of(other) == before


def people_of(owner: Visitor) -> str:
    """All that its owner sees of the people of an account."""
    shown = [owner.get(f"/auth/{path}") for path in ("me", "sessions", "members", "invitations")]
    assert [response.status_code for response in shown] == [200] * len(shown)
    return "".join(response.text for response in shown)


def all_of(tenant: Tenant) -> list[object]:
    """What its owner sees of it."""
    of = tenant.caller.account_id
    operator = COMMAND_LINE
    return [
        accounts.get(of),
        [(batch.id, batch.state, batch.ended_rows) for batch in batches.list_bulk(of, None, 100)],
        [(job.batch_id, job.status) for job in jobs.list_single(of, None, None, 100)],
        files.list_page(of, None, 100, True, None),
        [(key.id, key.status, key.expires_at) for key in keys.list_page(operator, of, None, 100)],
        webhook_endpoints.list_page(operator, of, None, 100),
        sent(tenant.caller),
    ]


def test_an_id_of_another_account_in_a_body_is_one_that_is_nowhere(web: WebClient, theirs: Tenant) -> None:
    for kind in ("input file", "output file", "error file", "ended batch"):
        shown = theirs.ids[kind]
        for path in ("/v1/batches", "/v1/batches/estimate"):
            answers = []
            for named in (shown, like(shown)):
                sent = {"input_file_id": named, "endpoint": "/v1/completions", "completion_window": "24h"}
                answers.append(told(web.post(path, json=sent), named))
            assert answers[0] == answers[1]
            assert answers[0][0] == 404
    answers = [
        told(web.post("/v1/webhook_deliveries/replay", json={"since": 0, "endpoint_id": named}), named)
        for named in (theirs.ids["endpoint"], like(theirs.ids["endpoint"]))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


def test_an_id_of_another_account_in_a_query_shows_nothing_of_it(web: WebClient, theirs: Tenant) -> None:
    mine = {
        "/v1/jobs": work.single(web.caller).hex,
        "/v1/batches": work.bulk(web.caller, 1).hex,
        "/v1/api_keys": web.caller.key_id.hex,
    }
    kinds = {
        "/v1/jobs": ("finished job", "waiting job"),
        "/v1/batches": ("ended batch", "waiting batch"),
        "/v1/files": ("input file", "output file", "error file"),
        "/v1/api_keys": ("key", "another key"),
        "/v1/webhook_endpoints": ("endpoint",),
        "/v1/webhook_deliveries": ("delivery",),
    }
    for path, named in kinds.items():
        for kind in named:
            shown = web.get(path, after=theirs.ids[kind]).get_json()["data"]
            assert {item["id"][-32:] for item in shown} <= {mine.get(path), *own_files(web)}
        every = web.get(path).text
        assert not any(shown in every for shown in theirs.ids.values())
    assert web.get("/v1/webhook_deliveries", endpoint_id=theirs.ids["endpoint"]).get_json()["data"] == []


def own_files(web: WebClient) -> set[str]:
    return {file.id.hex for file in files.list_page(web.caller.account_id, None, 100, True, None)}


FILTER = re.compile(r"(?:\b[a-z]\.)?account_id = (:account_id|%\(account_id\)s)")
# These are run by operators and workers, as the owner, for whom there is no row-level security.
OF_OWNER = frozenset({"accounts", "audit", "backlog", "pauses", "plan_moves", "platform", "key_uses"})
OF_WEB = sorted({module.name for module in pkgutil.iter_modules(common.__path__)} - OF_OWNER)


def unfiltered(statement: str) -> str:
    """The statement without its condition on the account; what it binds stays bound."""
    return FILTER.sub(lambda found: f"CAST({found[1]} AS uuid) IS NOT NULL", statement)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> int:
    """The application's own filter by account is gone from every statement; how many had it."""
    changed = 0
    for module in (importlib.import_module(f"common.{name}") for name in OF_WEB):
        for name, value in list(vars(module).items()):
            without: Any = None
            if isinstance(value, TextClause) and FILTER.search(value.text):
                without = text(unfiltered(value.text))
            elif isinstance(value, str) and name.startswith("_") and FILTER.search(value):
                without = unfiltered(value)
            elif isinstance(value, dict) and any(isinstance(item, TextClause) for item in value.values()):
                without = {key: text(unfiltered(item.text)) for key, item in value.items()}
            if without is not None:
                monkeypatch.setattr(module, name, without)
                changed += 1
    return changed


def test_with_the_applications_filter_removed_row_level_security_still_shows_nothing(
    web: WebClient, theirs: Tenant, forgetful: int
) -> None:
    assert forgetful >= 20
    before = all_of(theirs)
    for rule, method in routes(web):
        if not rule.endpoint.removeprefix("unversioned-").startswith("admin-"):
            for kind, shown in theirs.ids.items():
                response = ask(web, rule, method, shown)
                assert response.status_code == 404, (method, rule, kind, response.text)
    webhooks = ("/v1/webhook_endpoints", "/v1/webhook_deliveries")
    for path in ("/v1/jobs", "/v1/batches", "/v1/files", "/v1/api_keys", *webhooks):
        shown = web.get(path).get_json()["data"]
        assert [item["id"] for item in shown] == ([ids.show("key_", web.caller.key_id)] if "keys" in path else [])
    assert web.get("/v1/usage").get_json()["all_time"]["requests"] == 0
    assert web.get("/v1/usage", start_time=0, group_by="batch_id").get_json()["data"] == []
    # What goes by the account alone finds nothing of it either.
    assert web.post("/v1/webhook_deliveries/replay", json={"since": 0}).get_json()["replayed"] == 0
    assert web.post("/v1/webhook_secret/rotate", json={}).status_code == 200
    assert all_of(theirs) == before


def test_and_it_is_row_level_security_that_does_it(theirs: Tenant, forgetful: int, settings: dict[str, str]) -> None:
    """As a role that it does not hold, the same requests show everything: the test above would see it."""
    with process_settings(settings | {"WEB_DATABASE_URL": settings["DATABASE_URL"]}), own_logging():
        web = WebClient()
        for kind, path in {
            "finished job": "/v1/jobs",
            "ended batch": "/v1/batches",
            "input file": "/v1/files",
            "another key": "/v1/api_keys",
            "endpoint": "/v1/webhook_endpoints",
            "delivery": "/v1/webhook_deliveries",
        }.items():
            shown = theirs.ids[kind]
            assert web.get(f"{path}/{shown}").status_code == 200
            assert shown in [item["id"] for item in web.get(path).get_json()["data"]]
        assert web.get("/v1/usage").get_json()["all_time"]["requests"] > 0
        assert web.get("/v1/usage", start_time=0, group_by="batch_id").get_json()["data"] != []
