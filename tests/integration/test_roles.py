"""What each role may do: the same table for every address of the API, and nothing of it by what runs jobs."""

import re

import psycopg
import pytest
from flask import Flask

from common import keys, roles
from common.roles import Role
from tests.people import joined, shown, signed_up
from tests.web_client import WebClient, refused
from web.auth import ACCESS, Access

ID = "00000000000000000000000000000000"
RUNS_JOBS = {("POST", "/v1/jobs"), ("POST", "/v1/batches"), ("POST", f"/v1/batches/{ID}/retry")}


def views(app: Flask) -> list[tuple[str, str, Access]]:
    """Every address that asks who one is, with a method and who may call it."""
    found = []
    for rule in app.url_map.iter_rules():
        access = getattr(app.view_functions[rule.endpoint], ACCESS, None)
        if access is not None and not rule.endpoint.startswith("unversioned-"):
            path = re.sub(r"<[^>]*>", ID, rule.rule)
            found += [(method, path, access) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return found


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_role_may_do_what_its_scopes_say_and_nothing_else(
    web: WebClient, database: psycopg.Connection, role: Role
) -> None:
    owner = signed_up(web.app, "ada@example.org")
    person = owner if role == "owner" else joined(web.app, owner, "bob@example.org", role)
    tried = 0
    for method, path, access in views(web.app):
        if access.scope is None:
            continue
        response = person.request(method, path)
        tried += 1
        if (method, path) in RUNS_JOBS or access.scope == "admin":
            assert refused(response, 401)["code"] == "missing_api_key", (method, path)
        elif access.scope not in roles.SCOPES[role]:
            assert refused(response, 403)["code"] == "scope_missing", (method, path)
        else:
            # 409: nothing is sold here.
            assert response.status_code in {200, 400, 404, 409}, (method, path, response.text)
    assert tried > 50


def test_every_scope_of_a_role_is_one_and_admin_is_of_none() -> None:
    every = {scope for scopes in roles.SCOPES.values() for scope in scopes}
    assert "admin" not in every
    assert every >= set(keys.DEFAULT_SCOPES)


def test_no_view_of_people_is_without_a_word_on_who_may_call_it(web: WebClient) -> None:
    for rule in web.app.url_map.iter_rules():
        if rule.rule.startswith(("/auth/", "/v1/")):
            assert hasattr(web.app.view_functions[rule.endpoint], ACCESS), rule.rule


def test_a_person_makes_no_key_that_may_do_more_than_their_role(web: WebClient, database: psycopg.Connection) -> None:
    owner = signed_up(web.app, "ada@example.org")
    developer = joined(web.app, owner, "bob@example.org", "developer")
    for person in (owner, developer):
        answer = person.post("/v1/api_keys", {"name": "too much", "scopes": ["jobs", "admin"]})
        assert refused(answer, 403)["code"] == "scope_missing"
    made = shown(developer.post("/v1/api_keys", {"name": "his", "scopes": list(keys.DEFAULT_SCOPES[:6])}), 201)
    (listed,) = shown(owner.get("/v1/api_keys"))["data"]
    assert listed["id"] == made["id"]
    ((actor,),) = database.execute("SELECT actor FROM audit_log WHERE action = 'key.create' AND actor LIKE 'user_%'")
    assert actor == shown(developer.get("/auth/me"))["id"]


def test_an_owner_makes_keys_with_every_scope_that_a_key_of_an_account_may_have(
    web: WebClient, database: psycopg.Connection
) -> None:
    owner = signed_up(web.app, "ada@example.org")
    for scope in set(keys.SCOPES) - {"admin"}:
        assert shown(owner.post("/v1/api_keys", {"name": scope, "scopes": [scope]}), 201)["scopes"] == [scope]


def test_a_request_by_a_person_may_have_an_idempotency_key(web: WebClient, database: psycopg.Connection) -> None:
    owner = signed_up(web.app, "ada@example.org")
    sent, headers = {"name": "once", "scopes": ["jobs"]}, {"Idempotency-Key": "once"}
    first, second = (owner.request("POST", "/v1/api_keys", sent, headers) for _ in range(2))
    assert first.get_json() == second.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(shown(owner.get("/v1/api_keys"))["data"]) == 1


def test_people_are_counted_by_themselves_and_with_their_account(web: WebClient, database: psycopg.Connection) -> None:
    owner = signed_up(web.app, "ada@example.org")
    database.execute("""UPDATE accounts SET overrides = '{"key_requests_per_minute": 2}' WHERE plan = 'free'""")
    assert [owner.get("/v1/limits").status_code for _ in range(3)] == [200, 200, 429]
    assert "for one person" in refused(owner.get("/v1/limits"), 429)["message"]
