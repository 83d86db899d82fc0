"""/v1/webhook_endpoints and /v1/webhook_secret: who is told of what, and signed with which secret."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from common import ids, queue, webhook_secrets
from common.webhook_endpoints import MAX_ENDPOINTS
from common.webhook_events import DEFAULT_TYPES, EVENT_TYPES
from tests import work
from tests.databases import one
from tests.web_client import WebClient, refused
from worker.outcomes import record

URL = "https://example.com/hooks"
ENDPOINTS = "/v1/webhook_endpoints"


def make(web: WebClient, **fields: Any) -> dict[str, Any]:
    """A new endpoint, as the answer to its creation shows it."""
    response = web.post(ENDPOINTS, json={"url": URL} | fields)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.get_json()
    return made


def shown(web: WebClient, endpoint_id: str) -> dict[str, Any]:
    response = web.get(f"{ENDPOINTS}/{endpoint_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def act(web: WebClient, endpoint_id: str, verb: str, status: int = 200, **sent: Any) -> dict[str, Any]:
    response = web.post(f"{ENDPOINTS}/{endpoint_id}/{verb}", json=sent)
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.get_json()
    return found


def test_a_secret_is_shown_once_and_stored_encrypted(web: WebClient, database: psycopg.Connection) -> None:
    response = web.post(ENDPOINTS, json={"url": URL, "name": "orders", "description": "Both.", "include": ["result"]})
    made = response.get_json()
    secret = made.pop("signing_secret")
    assert response.headers["cache-control"] == "no-store"
    assert made["event_types"] == list(DEFAULT_TYPES)
    assert (made["name"], made["description"], made["include"]) == ("orders", "Both.", ["result"])
    assert (made["status"], made["origin"], made["object"]) == ("enabled", "endpoint", "webhook_endpoint")
    assert shown(web, made["id"]) == made
    assert web.get(ENDPOINTS).get_json()["data"] == [made]
    stored = one(database, "SELECT secret, to_jsonb(webhook_endpoints)::text FROM webhook_endpoints")
    assert secret not in str(stored)
    assert isinstance(stored[0], bytes)
    assert webhook_secrets.unseal(stored[0]) == secret


def test_under_an_idempotency_key_one_endpoint_is_made_and_its_secret_given_again(web: WebClient) -> None:
    answers = [web.post(ENDPOINTS, {"Idempotency-Key": "one"}, json={"url": URL}) for _ in range(2)]
    assert answers[0].get_json() == answers[1].get_json()
    assert [answer.headers["cache-control"] for answer in answers] == ["no-store"] * 2
    assert len(web.get(ENDPOINTS).get_json()["data"]) == 1


def test_event_types_are_stored_once_each_and_progress_only_where_it_is_named(web: WebClient) -> None:
    assert "batch.progress" not in make(web)["event_types"]
    made = make(web, event_types=["job.failed", "batch.progress", "job.failed"])
    assert made["event_types"] == ["batch.progress", "job.failed"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"url": None}, "url"),
        ({"url": ""}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://[::1"}, "url"),
        ({"url": "https://example.com/\x00"}, "url"),
        ({"url": URL, "event_types": []}, "event_types"),
        ({"url": URL, "event_types": ["batch.done"]}, "event_types.0"),
        ({"url": URL, "include": ["all"]}, "include.0"),
        ({"url": URL, "name": " "}, "name"),
        ({"url": URL, "name": "\x1b[2J"}, "name"),
        ({"url": URL, "description": "x" * 1_001}, "description"),
        ({"url": URL, "secret": "whsec_mine"}, "secret"),
        ({}, "url"),
    ],
)
def test_a_bad_endpoint_is_refused_naming_the_field(web: WebClient, fields: dict[str, Any], param: str) -> None:
    assert refused(web.post(ENDPOINTS, json=fields), 400)["param"] == param
    assert web.get(ENDPOINTS).get_json()["data"] == []
    # To change nothing is no error.
    if fields.get("url") is not None:
        made = make(web)
        made.pop("signing_secret")
        assert refused(web.post(f"{ENDPOINTS}/{made['id']}", json=fields), 400)["param"] == param
        assert shown(web, made["id"]) == made


def test_an_update_changes_what_is_sent_and_nothing_else(web: WebClient, database: psycopg.Connection) -> None:
    made = make(web, name="orders", description="Both.", include=["result"], event_types=["job.failed"])
    made.pop("signing_secret")
    path = f"{ENDPOINTS}/{made['id']}"
    assert web.post(path, json={}).get_json() == made
    assert web.post(path, json={"description": "", "url": None}).get_json() == made | {"description": ""}
    database.execute("UPDATE webhook_endpoints SET failing_since = now()")
    assert web.post(path, json={"url": URL}).get_json()["failing_since"] is not None
    changed = {"url": URL + "/2", "name": "both", "event_types": list(EVENT_TYPES), "include": []}
    assert web.post(path, json=changed).get_json() == made | changed | {"description": ""}
    assert shown(web, made["id"]) == made | changed | {"description": ""}


def test_endpoints_are_listed_newest_first_page_by_page(web: WebClient) -> None:
    made = [make(web)["id"] for _ in range(3)]
    first = web.get(ENDPOINTS, limit=2).get_json()
    rest = web.get(ENDPOINTS, limit=2, after=first["last_id"]).get_json()
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [item["id"] for item in first["data"] + rest["data"]] == made[::-1]


def test_no_race_makes_more_endpoints_than_an_account_may_have(web: WebClient) -> None:
    for _ in range(MAX_ENDPOINTS - 2):
        make(web)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: web.post(ENDPOINTS, json={"url": URL}), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 6
    error = next(refused(answer, 409) for answer in answers if answer.status_code == 409)
    assert error["code"] == "too_many_webhook_endpoints"
    some = web.get(ENDPOINTS, limit=1).get_json()["data"][0]["id"]
    assert web.delete(f"{ENDPOINTS}/{some}").status_code == 200
    make(web)


def test_a_disabled_endpoint_is_sent_nothing_until_it_is_enabled_and_the_others_are_told(
    web: WebClient, database: psycopg.Connection
) -> None:
    made, other = make(web), make(web)
    queue.redis().flushdb()
    disabled = act(web, made["id"], "disable")
    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "requested")
    assert disabled["disabled_at"] is not None
    assert act(web, made["id"], "disable") == disabled
    assert queue.waiting()[queue.DELIVERIES_QUEUE] == 1
    error = refused(web.post(f"{ENDPOINTS}/{made['id']}/test", json={}), 409)
    assert error["code"] == "webhook_endpoint_disabled"
    deliveries = web.get("/v1/webhook_deliveries", event_type="webhook_endpoint.disabled").get_json()["data"]
    assert [item["endpoint_id"] for item in deliveries] == [other["id"]]
    assert deliveries[0]["event"]["data"] == {"id": made["id"], "reason": "requested"}

    database.execute("UPDATE webhook_endpoints SET failing_since = now()")
    enabled = act(web, made["id"], "enable")
    made.pop("signing_secret")
    assert enabled == made == act(web, made["id"], "enable")


def test_a_deleted_endpoint_is_nowhere_and_its_deliveries_stay_in_the_log(web: WebClient) -> None:
    made = make(web)
    sent = act(web, made["id"], "test", 202)
    gone = web.delete(f"{ENDPOINTS}/{made['id']}")
    assert gone.get_json() == {"id": made["id"], "object": "webhook_endpoint.deleted", "deleted": True}
    refused(web.delete(f"{ENDPOINTS}/{made['id']}"), 404)
    refused(web.get(f"{ENDPOINTS}/{made['id']}"), 404)
    refused(web.post(f"{ENDPOINTS}/{made['id']}", json={}), 404)
    for verb in ("enable", "disable", "rotate_secret", "test"):
        refused(web.post(f"{ENDPOINTS}/{made['id']}/{verb}", json={}), 404)
    assert web.get(ENDPOINTS).get_json()["data"] == []
    (logged,) = web.get("/v1/webhook_deliveries").get_json()["data"]
    assert logged["id"] == sent["id"]
    error = refused(web.post(f"/v1/webhook_deliveries/{sent['id']}/redeliver"), 409)
    assert "deleted" in error["message"]


def test_a_rotated_secret_leaves_the_one_before_for_the_overlap(web: WebClient, database: psycopg.Connection) -> None:
    made = make(web)
    rotated = act(web, made["id"], "rotate_secret", overlap_seconds=3_600)
    assert rotated["signing_secret"] != made["signing_secret"]
    assert 3_590 < rotated["previous_secret_expires_at"] - made["created_at"] < 3_700
    stored = "SELECT secret, previous_secret FROM webhook_endpoints"
    assert unsealed(one(database, stored)) == [rotated["signing_secret"], made["signing_secret"]]
    error = refused(web.post(f"{ENDPOINTS}/{made['id']}/rotate_secret", json={"overlap_seconds": 1}), 409)
    assert error["code"] == "rotation_under_way"
    ended = act(web, made["id"], "rotate_secret", overlap_seconds=0)
    assert ended["previous_secret_expires_at"] is None
    assert unsealed(one(database, stored)) == [ended["signing_secret"]]

    act(web, made["id"], "rotate_secret")
    database.execute("UPDATE webhook_endpoints SET previous_secret_until = now()")
    assert shown(web, made["id"])["previous_secret_expires_at"] is None
    act(web, made["id"], "rotate_secret", keep_old_secret_active_for_24_hours=True)
    assert act(web, made["id"], "rotate_secret", keep_old_secret_active_for_24_hours=False)
    both = {"overlap_seconds": 1, "keep_old_secret_active_for_24_hours": True}
    for wrong in ({"overlap_seconds": 604_801}, {"overlap_seconds": -1}, both):
        refused(web.post(f"{ENDPOINTS}/{made['id']}/rotate_secret", json=wrong), 400)


def test_of_rotations_at_once_one_is_done_and_no_secret_is_lost(web: WebClient, database: psycopg.Connection) -> None:
    made = make(web)
    web.post("/v1/webhook_secret/rotate", json={})
    paths = (f"{ENDPOINTS}/{made['id']}/rotate_secret", "/v1/webhook_secret/rotate")
    for path in paths:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda path: web.post(path, json={}), [path] * 4))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    (previous,) = one(database, "SELECT previous_secret FROM webhook_endpoints")
    assert unsealed((previous,)) == [made["signing_secret"]]


def unsealed(row: tuple[object, ...]) -> list[str]:
    return [webhook_secrets.unseal(value) for value in row if isinstance(value, bytes)]


def test_the_accounts_secret_is_shown_when_it_is_rotated_and_never_else(
    web: WebClient, database: psycopg.Connection
) -> None:
    path = "/v1/webhook_secret/rotate"
    response = web.post(path, json={})
    first = response.get_json()
    assert response.headers["cache-control"] == "no-store"
    assert first["previous_secret_expires_at"] is None
    second = web.post(path, json={}).get_json()
    assert 86_390 < second["previous_secret_expires_at"] - second["created_at"] <= 86_400
    stored = "SELECT secret, previous_secret FROM webhook_secrets"
    assert unsealed(one(database, stored)) == [second["signing_secret"], first["signing_secret"]]
    assert refused(web.post(path, json={}), 409)["code"] == "rotation_under_way"
    third = web.post(path, json={"overlap_seconds": 0}).get_json()
    assert unsealed(one(database, stored)) == [third["signing_secret"]]
    refused(web.post(path, json={"overlap_seconds": 604_801}), 400)


def test_a_url_that_jobs_name_is_listed_and_has_its_types_and_its_secret_from_elsewhere(web: WebClient) -> None:
    job = {"model": "sim", "prompt": "Hi", "webhook_url": URL}
    assert web.post("/v1/jobs", json=job).status_code == 202
    (found,) = web.get(ENDPOINTS).get_json()["data"]
    assert (found["origin"], found["url"], found["event_types"]) == ("submission", URL, [])
    endpoint_id = found["id"]
    for changes in ({"url": URL + "/2"}, {"event_types": ["job.failed"]}):
        refused(web.post(f"{ENDPOINTS}/{endpoint_id}", json=changes), 409)
    error = refused(web.post(f"{ENDPOINTS}/{endpoint_id}/rotate_secret", json={}), 409)
    assert "/v1/webhook_secret/rotate" in error["message"]
    assert web.post(f"{ENDPOINTS}/{endpoint_id}", json={"include": ["result"]}).get_json()["include"] == ["result"]
    assert act(web, endpoint_id, "disable")["status"] == "disabled"
    error = refused(web.post("/v1/jobs", json=job), 409)
    assert f"{ENDPOINTS}/{endpoint_id}/enable" in error["message"]
    assert act(web, endpoint_id, "enable")["status"] == "enabled"
    assert web.post("/v1/jobs", json=job).status_code == 202
    assert act(web, endpoint_id, "test", 202)["event"]["type"] == "job.completed"
    assert len([make(web) for _ in range(MAX_ENDPOINTS)]) == MAX_ENDPOINTS


def test_what_is_done_to_endpoints_and_secrets_is_in_the_audit_log_without_secrets_or_urls(
    web: WebClient, database: psycopg.Connection
) -> None:
    made = make(web)
    web.post(f"{ENDPOINTS}/{made['id']}", json={"name": "other"})
    for verb in ("disable", "enable", "rotate_secret"):
        act(web, made["id"], verb)
    web.delete(f"{ENDPOINTS}/{made['id']}")
    web.post("/v1/webhook_secret/rotate", json={})
    rows = database.execute(
        "SELECT actor, action, details::text FROM audit_log WHERE action LIKE 'webhook%' ORDER BY id"
    ).fetchall()
    verbs = ("create", "update", "disable", "enable", "rotate_secret", "delete")
    assert [row[1] for row in rows] == [f"webhook_endpoint.{verb}" for verb in verbs] + ["webhook_secret.rotate"]
    assert {row[0] for row in rows} == {ids.show("key_", web.caller.key_id)}
    assert not any("whsec_" in row[2] or "example.com" in row[2] for row in rows)


def test_a_key_without_the_scope_does_nothing_with_webhooks(web: WebClient) -> None:
    other = WebClient(scopes=("jobs", "batches"))
    for method, path in (
        ("GET", ENDPOINTS),
        ("POST", ENDPOINTS),
        ("GET", "/v1/webhook_event_types"),
        ("GET", "/v1/webhook_deliveries"),
        ("POST", "/v1/webhook_deliveries/replay"),
        ("POST", "/v1/webhook_secret/rotate"),
    ):
        error = refused(other.request(method, path, json={}), 403)
        assert error["code"] == "scope_missing"
        assert "'webhooks'" in error["message"]


def test_what_ends_while_an_endpoint_is_disabled_is_not_delivered_to_it(
    web: WebClient, database: psycopg.Connection
) -> None:
    made = make(web, event_types=["job.completed"])
    act(web, made["id"], "disable")
    finish_a_job(web)
    assert web.get("/v1/webhook_deliveries").get_json()["data"] == []
    act(web, made["id"], "enable")
    job_id = finish_a_job(web)
    (delivery,) = web.get("/v1/webhook_deliveries").get_json()["data"]
    assert delivery["event"]["data"] == {"id": job_id}
    assert (delivery["status"], delivery["attempt_count"]) == ("pending", 0)


def finish_a_job(web: WebClient) -> str:
    job_id = work.single(web.caller)
    for claim in work.all_claims():
        record([work.outcome(claim, job.seq) for job in claim.jobs])
    return ids.show("job_", job_id)
