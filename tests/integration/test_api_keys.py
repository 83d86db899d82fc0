"""/v1/api_keys: an account makes, lists, revokes and rotates its own keys, and no key can give more than it has."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from common import keys
from common.keys import DEFAULT_SCOPES, MAX_LIFE, MAX_OVERLAP
from local.stack import Stack
from tests.conftest import NewCustomer
from tests.customer import answer, refusal
from tests.databases import one
from tests.process_settings import process_settings
from tests.web_client import WebClient, own_logging, refused

FIELDS = {
    "id", "object", "name", "prefix", "scopes", "status", "created_at", "expires_at", "revoked_at", "last_used_at",
    "replaces",
}  # fmt: skip


def make(
    web: WebClient, name: str = "nightly", scopes: tuple[str, ...] = ("jobs", "keys"), **fields: Any
) -> dict[str, Any]:
    """A new key, as the answer to its creation shows it."""
    response = web.post("/v1/api_keys", json={"name": name, "scopes": scopes} | fields)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.get_json()
    return made


def rotate(web: WebClient, key_id: str, **fields: Any) -> dict[str, Any]:
    response = web.post(f"/v1/api_keys/{key_id}/rotate", json=fields)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.get_json()
    return made


def shown(web: WebClient, key_id: str) -> dict[str, Any]:
    response = web.get(f"/v1/api_keys/{key_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def expire(database: psycopg.Connection, key_id: str) -> None:
    database.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", [key_id.removeprefix("key_")])


def works(web: WebClient, key: str) -> bool:
    return web.using(key).get("/v1/jobs").status_code == 200


def test_a_key_is_shown_once_and_never_again(web: WebClient) -> None:
    response = web.post("/v1/api_keys", json={"name": "nightly", "scopes": ["keys", "jobs", "jobs"]})
    made = response.get_json()
    secret = made.pop("key")
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    assert set(made) == FIELDS
    assert made["scopes"] == ["jobs", "keys"]
    assert (made["status"], made["expires_at"], made["replaces"]) == ("active", None, None)
    assert secret.startswith(made["prefix"] + "_")
    assert works(web, secret)
    for path in ("/v1/api_keys", f"/v1/api_keys/{made['id']}"):
        assert secret.removeprefix(made["prefix"]) not in web.get(path).text
    assert shown(web, made["id"]) == made


def test_keys_are_listed_newest_first_page_by_page_with_those_that_hold_no_longer(
    web: WebClient, database: psycopg.Connection
) -> None:
    made = [make(web, f"key {number}") for number in range(3)]
    web.delete(f"/v1/api_keys/{made[0]['id']}")
    expire(database, made[1]["id"])
    first = web.get("/v1/api_keys", limit=2).get_json()
    rest = web.get("/v1/api_keys", limit=2, after=first["last_id"]).get_json()
    assert (first["object"], first["has_more"], rest["has_more"]) == ("list", True, False)
    names = [(key["name"], key["status"]) for key in first["data"] + rest["data"]]
    assert names == [("key 2", "active"), ("key 1", "expired"), ("key 0", "revoked"), ("test", "active")]
    error = refused(web.get("/v1/api_keys", after="batch_1"), 400)
    assert error["param"] == "after"


def test_a_key_lives_as_long_as_was_asked_for(web: WebClient, database: psycopg.Connection) -> None:
    now = time.time()
    by_seconds, by_moment = make(web, expires_in=3_600), make(web, expires_at=int(now) + 7_200)
    assert by_seconds["expires_at"] == pytest.approx(now + 3_600, abs=5)
    assert by_moment["expires_at"] == int(now) + 7_200
    expire(database, by_seconds["id"])
    assert not works(web, by_seconds["key"])
    assert works(web, by_moment["key"])


def test_revoking_holds_from_the_next_request_on_and_once_more_changes_nothing(web: WebClient) -> None:
    made = make(web)
    assert works(web, made["key"])
    revoked = web.delete(f"/v1/api_keys/{made['id']}")
    assert revoked.status_code == 200
    assert revoked.get_json()["status"] == "revoked"
    assert not works(web, made["key"])
    assert web.delete(f"/v1/api_keys/{made['id']}").get_json() == revoked.get_json()


def test_a_key_that_one_process_revokes_is_refused_by_every_other_at_once(
    stack: Stack, new_customer: NewCustomer
) -> None:
    customer = new_customer()
    with process_settings(stack.env), own_logging():
        here = WebClient().using(customer.key)
        for revoke_here in (True, False):
            sent = {"name": "shared", "scopes": ["jobs"]}
            made = answer(customer.post("/v1/api_keys", sent))
            headers = {"Authorization": f"Bearer {made['key']}"}
            assert here.using(made["key"]).get("/v1/jobs").status_code == 200
            assert customer.http.get("/v1/jobs", headers=headers).status_code == 200
            path = f"/v1/api_keys/{made['id']}"
            assert (here.delete(path) if revoke_here else customer.http.delete(path)).status_code == 200
            refused(here.using(made["key"]).get("/v1/jobs"), 401)
            refusal(customer.http.get("/v1/jobs", headers=headers), 401)


def test_a_rotated_key_has_a_successor_like_it_and_lives_on_for_the_overlap(web: WebClient) -> None:
    old = make(web, "nightly", ("jobs", "files"))
    new = rotate(web, old["id"], overlap_seconds=600)
    assert (new["name"], new["scopes"], new["replaces"]) == ("nightly", ["jobs", "files"], old["id"])
    assert new["expires_at"] is None
    assert works(web, old["key"])
    assert works(web, new["key"])
    assert shown(web, old["id"])["expires_at"] == pytest.approx(time.time() + 600, abs=5)


def test_without_an_overlap_the_old_key_ends_at_once_and_by_default_in_a_day(web: WebClient) -> None:
    at_once, in_a_day = make(web), make(web)
    assert works(web, rotate(web, at_once["id"], overlap_seconds=0)["key"])
    assert not works(web, at_once["key"])
    assert shown(web, at_once["id"])["status"] == "expired"
    rotate(web, in_a_day["id"])
    assert shown(web, in_a_day["id"])["expires_at"] == pytest.approx(time.time() + 86_400, abs=5)


def test_an_overlap_never_prolongs_a_key_and_the_successor_lives_as_long_as_it_was_given(web: WebClient) -> None:
    old = make(web, expires_in=60)
    new = rotate(web, old["id"], overlap_seconds=3_600)
    assert shown(web, old["id"])["expires_at"] == old["expires_at"]
    assert new["expires_at"] == pytest.approx(time.time() + 60, abs=5)
    longer = rotate(web, new["id"], expires_in=7_200)
    assert longer["expires_at"] == pytest.approx(time.time() + 7_200, abs=5)


def test_a_key_can_rotate_itself(web: WebClient) -> None:
    old = make(web)
    new = rotate(web.using(old["key"]), old["id"], overlap_seconds=0)
    assert not works(web, old["key"])
    assert works(web, new["key"])


def test_a_key_is_rotated_once_however_many_ask_at_once(web: WebClient) -> None:
    old = make(web)
    with ThreadPoolExecutor(8) as threads:
        path = f"/v1/api_keys/{old['id']}/rotate"
        answers = list(threads.map(lambda _: web.post(path, json={"overlap_seconds": 60}), range(8)))
    (made,) = [response.get_json() for response in answers if response.status_code == 201]
    for response in answers:
        if response.status_code != 201:
            assert made["id"] in refused(response, 409)["message"]
            assert response.headers["x-should-retry"] == "false"
    assert sum(key["replaces"] == old["id"] for key in web.get("/v1/api_keys").get_json()["data"]) == 1


def test_a_key_that_holds_no_longer_is_not_rotated(web: WebClient, database: psycopg.Connection) -> None:
    revoked, expired = make(web), make(web)
    web.delete(f"/v1/api_keys/{revoked['id']}")
    expire(database, expired["id"])
    for key, status in ((revoked, "revoked"), (expired, "expired")):
        error = refused(web.post(f"/v1/api_keys/{key['id']}/rotate", json={}), 409)
        assert status in error["message"]


def test_a_key_gives_no_scope_that_it_lacks(web: WebClient) -> None:
    for scope in sorted({*DEFAULT_SCOPES} - {"keys"}):
        weak = web.using(make(web, scopes=tuple({*DEFAULT_SCOPES} - {scope}))["key"])
        response = weak.post("/v1/api_keys", json={"name": "more", "scopes": ["keys", scope]})
        error = refused(response, 403)
        assert (error["code"], error["param"]) == ("scope_missing", "scopes")
        assert f"'{scope}'" in error["message"]
        assert response.headers["x-should-retry"] == "false"


def test_a_key_gets_no_scope_that_it_lacks_by_rotating_another(web: WebClient) -> None:
    strong = make(web, "strong", ("jobs", "batches"))
    weak = web.using(make(web, scopes=("keys",))["key"])
    assert refused(weak.post(f"/v1/api_keys/{strong['id']}/rotate", json={}), 403)["code"] == "scope_missing"
    assert works(web, strong["key"])


def test_no_customer_can_make_an_operator(web: WebClient, settings: dict[str, str]) -> None:
    sent = {"name": "mine", "scopes": ["admin"]}
    assert refused(web.post("/v1/api_keys", json=sent), 403)["code"] == "scope_missing"
    operator = WebClient(scopes=keys.SCOPES)
    assert operator.post("/v1/api_keys", json=sent).status_code == 201


def test_without_the_scope_keys_nothing_is_told_or_done(web: WebClient) -> None:
    weak = web.using(make(web, scopes=("jobs", "usage"))["key"])
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/key_1"), ("DELETE", "/key_1"), ("POST", "/key_1/rotate")):
        response = weak.request(method, f"/v1/api_keys{path}", json={})
        error = refused(response, 403)
        assert error["code"] == "scope_missing"
        assert "'keys'" in error["message"]
        assert response.headers["x-should-retry"] == "false"


def test_a_leaked_prefix_or_the_whole_of_what_is_shown_opens_nothing(web: WebClient) -> None:
    made = make(web)
    prefix = made["prefix"]
    shown_values = [str(value) for value in shown(web, made["id"]).values()]
    for wrong in (prefix, f"{prefix}_", f"{prefix}__", f"{prefix}_{'A' * 43}", f"_{prefix}", *shown_values):
        refused(web.using(wrong or "x").get("/v1/jobs"), 401)


BAD_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": " \t "}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": "nul \0"}, "name"),
    ({"name": "half \ud800"}, "name"),
    ({"name": "line\nfeed"}, "name"),
    ({"name": "\x1b[2Jgone"}, "name"),
    ({"name": "\x9b2Jgone"}, "name"),
    ({"name": None}, "name"),
    ({"name": ["a"]}, "name"),
    ({"scopes": []}, "scopes"),
    ({"scopes": "jobs"}, "scopes"),
    ({"scopes": ["everything"]}, "scopes.0"),
    ({"scopes": ["jobs"] * 21}, "scopes"),
    ({"expires_in": 0}, "expires_in"),
    ({"expires_in": -1}, "expires_in"),
    ({"expires_in": 1.5}, "expires_in"),
    ({"expires_in": True}, "expires_in"),
    ({"expires_in": 10**30}, "expires_in"),
    ({"expires_in": int(MAX_LIFE.total_seconds()) + 1}, "expires_in"),
    ({"expires_at": 1}, "expires_at"),
    ({"expires_at": 253_402_300_799}, "expires_at"),
    ({"expires_at": 10**30}, "expires_at"),
    ({"expires_at": "tomorrow"}, "expires_at"),
    ({"expires_at": 4_000_000_000, "expires_in": 60}, "expires_in"),
    ({"admin": True}, "admin"),
    ({"account_id": "acct_1"}, "account_id"),
    ({"key": "by_mine_x"}, "key"),
]


def test_a_key_that_cannot_be_is_refused_naming_what_is_wrong(web: WebClient, database: psycopg.Connection) -> None:
    for fields, param in BAD_KEYS:
        error = refused(web.post("/v1/api_keys", json={"name": "nightly", "scopes": ["jobs"]} | fields), 400)
        assert error["param"] == param, fields
    assert one(database, "SELECT count(*) FROM api_keys") == (1,)


ODD_NAMES = ["x" * 200, "ночь 🌙", "<script>alert(1)</script>", "'; DROP TABLE api_keys; --", "%s %(id)s :id"]


def test_an_odd_name_is_kept_as_it_was_sent(web: WebClient) -> None:
    for name in ODD_NAMES:
        made = make(web, name)
        assert shown(web, made["id"])["name"] == name
        assert rotate(web, made["id"])["name"] == name


def test_an_overlap_that_cannot_be_is_refused(web: WebClient) -> None:
    made = make(web)
    for overlap in (-1, int(MAX_OVERLAP.total_seconds()) + 1, 10**30, 1.5, True, "60", None):
        error = refused(web.post(f"/v1/api_keys/{made['id']}/rotate", json={"overlap_seconds": overlap}), 400)
        assert error["param"] == "overlap_seconds", overlap
    assert shown(web, made["id"])["expires_at"] is None


def test_what_is_no_key_of_the_account_is_not_found(web: WebClient) -> None:
    for key_id in ("key_" + "0" * 32, "key_", "x", "by_aaaaaaaa", "%00", "key_" + "F" * 32, "k" * 3_000):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            refused(web.request(method, f"/v1/api_keys/{key_id}{path}", json={}), 404)


def test_what_is_done_to_keys_stands_in_the_audit_log_with_who_did_it(
    web: WebClient, database: psycopg.Connection
) -> None:
    made = make(web)
    new = rotate(web, made["id"])
    web.delete(f"/v1/api_keys/{made['id']}")
    web.delete(f"/v1/api_keys/{made['id']}")
    refused(web.post("/v1/api_keys", json={"name": "x", "scopes": ["admin"]}), 403)
    found = database.execute(
        "SELECT actor, action, details ->> 'key' FROM audit_log WHERE account_id = %s ORDER BY id",
        [web.caller.account_id],
    ).fetchall()
    own = f"key_{web.caller.key_id.hex}"
    ours = [("key.create", made["id"]), ("key.rotate", new["id"]), ("key.revoke", made["id"])]
    assert found[0] == ("command line", "account.create", None)
    assert found[1][:2] == ("command line", "key.create")
    assert found[2:] == [(own, action, key) for action, key in ours]
    for row in database.execute("SELECT details::text FROM audit_log").fetchall():
        assert made["key"].rpartition("_")[2] not in row[0]
