"""A job or batch that names a URL to be told at: what is accepted and shown, and what there is then to deliver to."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from common import ids, submission_webhooks, webhook_secrets
from tests import work
from tests.databases import one
from tests.web_client import WebClient, refused
from worker import ingest

URL = "https://hooks.example.com/batchyard?of=ann"
SHORT = {"model": "sim", "prompt": "Hi"}
FULL = {"endpoint": "/v1/completions", "body": {"model": "sim", "prompt": "Hi"}}
INLINE = {"endpoint": "/v1/chat/completions", "requests": [work.request(0)]}


def csv_form(**fields: Any) -> dict[str, Any]:
    return {"model": "sim", "prompt": "{{text}}", "file": (io.BytesIO(b"text\none\n"), "rows.csv")} | fields


def endpoints(database: psycopg.Connection) -> list[Any]:
    return database.execute("SELECT account_id, url, origin, state FROM webhook_endpoints ORDER BY id").fetchall()


@pytest.mark.parametrize("sent", [SHORT, FULL])
@pytest.mark.parametrize("events", [None, ["job.failed"], ["job.completed", "job.failed"]])
def test_a_job_shows_where_it_is_told_of(web: WebClient, sent: dict[str, Any], events: list[str] | None) -> None:
    answer = web.post("/v1/jobs", json=sent | {"webhook_url": URL, "webhook_events": events})
    assert answer.status_code == 202, answer.text
    job = answer.get_json()
    assert (job["webhook_url"], job["webhook_events"]) == (URL, events)
    shown = web.get(f"/v1/jobs/{job['id']}").get_json()
    assert (shown["webhook_url"], shown["webhook_events"]) == (URL, events)
    plain = web.post("/v1/jobs", json=sent).get_json()
    assert (plain["webhook_url"], plain["webhook_events"]) == (None, None)


def test_a_batch_shows_where_it_is_told_of_and_its_rows_do_not(web: WebClient) -> None:
    file = {"purpose": "batch", "file": (io.BytesIO(b"{}\n"), "rows.jsonl")}
    file_id = web.post("/v1/files", data=file).get_json()["id"]
    wanted = {"webhook_url": URL, "webhook_events": ["batch.progress", "batch.completed"]}
    of_file = {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}
    made = [web.post("/v1/batches", json=sent | wanted) for sent in (INLINE, of_file)]
    made.append(web.post("/v1/batches", data=csv_form(**wanted)))
    made.append(web.post("/v1/batches", data=csv_form(webhook_url=URL, webhook_events="batch.failed")))
    for answer in made[:3]:
        assert {name: answer.get_json()[name] for name in wanted} == wanted
    assert made[3].get_json()["webhook_events"] == ["batch.failed"]
    listed = web.get("/v1/batches").get_json()["data"]
    assert [batch["webhook_url"] for batch in listed] == [URL] * 4
    batch_id = ids.parse("batch_", made[0].get_json()["id"])
    assert batch_id is not None
    ingest.read(batch_id)
    row = web.get(f"/v1/jobs/job_{batch_id.hex}_0").get_json()
    assert (row["webhook_url"], row["webhook_events"]) == (None, None)


def test_a_url_has_one_endpoint_signed_with_the_account_s_secret(web: WebClient, database: psycopg.Connection) -> None:
    for _ in range(2):
        assert web.post("/v1/jobs", json=SHORT | {"webhook_url": URL}).status_code == 202
    web.post("/v1/batches", json=INLINE | {"webhook_url": URL})
    assert endpoints(database) == [(web.caller.account_id, URL, "submission", "enabled")]
    (sealed,) = one(database, "SELECT secret FROM webhook_secrets")
    assert isinstance(sealed, bytes)
    assert webhook_secrets.unseal(sealed).startswith("whsec_")
    web.post("/v1/jobs", json=SHORT | {"webhook_url": URL + "2"})
    assert [url for _, url, *_ in endpoints(database)] == [URL, URL + "2"]
    assert one(database, "SELECT secret FROM webhook_secrets") == (sealed,)
    other = WebClient()
    assert other.post("/v1/jobs", json=SHORT | {"webhook_url": URL}).status_code == 202
    assert [account for account, *_ in endpoints(database)][-1] == other.caller.account_id
    assert one(database, "SELECT count(DISTINCT secret) FROM webhook_secrets") == (2,)


def test_jobs_that_name_a_url_at_once_make_one_endpoint(database: psycopg.Connection) -> None:
    of = work.caller()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: submission_webhooks.for_url(of.account_id, URL), range(24)))
    assert endpoints(database) == [(of.account_id, URL, "submission", "enabled")]


@pytest.mark.parametrize(
    ("path", "sent", "param"),
    [
        ("jobs", SHORT | {"webhook_events": ["job.completed"]}, "webhook_events"),
        ("jobs", SHORT | {"webhook_url": URL, "webhook_events": []}, "webhook_events"),
        ("jobs", FULL | {"webhook_url": URL, "webhook_events": ["batch.completed"]}, "webhook_events.0"),
        ("jobs", SHORT | {"webhook_url": URL, "webhook_events": ["job.failed"] * 3}, "webhook_events"),
        ("jobs", SHORT | {"webhook_url": 7}, "webhook_url"),
        ("jobs", SHORT | {"webhook_url": ""}, "webhook_url"),
        ("jobs", SHORT | {"webhook_url": "http://hooks.example.com/"}, "webhook_url"),
        ("jobs", SHORT | {"webhook_url": "https://127.0.0.1/"}, "webhook_url"),
        ("jobs", FULL | {"webhook_url": "https://hooks.example.com/\u0000"}, "webhook_url"),
        ("jobs", FULL | {"webhook_url": "https://hooks.example.com/" + "a" * 2_000}, "webhook_url"),
        ("batches", INLINE | {"webhook_events": ["batch.completed"]}, "webhook_events"),
        ("batches", INLINE | {"webhook_url": URL, "webhook_events": ["job.completed"]}, "webhook_events.0"),
        ("batches", INLINE | {"webhook_url": URL, "webhook_events": "batch.completed"}, "webhook_events"),
        ("batches", INLINE | {"webhook_url": "https://10.0.0.8/"}, "webhook_url"),
        ("batches/estimate", INLINE | {"webhook_url": "https://10.0.0.8/"}, "webhook_url"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(
    web: WebClient, database: psycopg.Connection, path: str, sent: dict[str, Any], param: str
) -> None:
    assert refused(web.post(f"/v1/{path}", json=sent), 400)["param"] == param
    assert endpoints(database) == []
    assert one(database, "SELECT count(*) FROM batches") == (0,)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"webhook_events": "batch.completed"}, "webhook_events"),
        ({"webhook_url": URL, "webhook_events": ["batch.completed", "all"]}, "webhook_events.1"),
        ({"webhook_url": [URL, URL]}, "webhook_url"),
        ({"webhook_url": "https://[::1]/"}, "webhook_url"),
    ],
)
def test_a_form_s_webhook_that_cannot_be_is_refused(web: WebClient, fields: dict[str, Any], param: str) -> None:
    for path in ("/v1/batches", "/v1/batches/estimate"):
        assert refused(web.post(path, data=csv_form(**fields)), 400)["param"] == param


@pytest.mark.parametrize("reason", ["requested", "gone", "failing"])
def test_a_disabled_url_cannot_be_named(web: WebClient, database: psycopg.Connection, reason: str) -> None:
    web.post("/v1/jobs", json=SHORT | {"webhook_url": URL})
    disable = "UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = %s, disabled_at = now()"
    database.execute(disable, [reason])
    (endpoint_id,) = one(database, "SELECT id FROM webhook_endpoints")
    assert isinstance(endpoint_id, UUID)
    for answer in (
        web.post("/v1/jobs", json=SHORT | {"webhook_url": URL}),
        web.post("/v1/batches", json=INLINE | {"webhook_url": URL}),
        web.post("/v1/batches", data=csv_form(webhook_url=URL)),
    ):
        error = refused(answer, 409)
        assert (error["code"], error["param"]) == ("webhook_endpoint_disabled", "webhook_url")
        assert f"we_{endpoint_id.hex}" in error["message"]
    assert one(database, "SELECT count(*) FROM batches") == (1,)
    # One that its owner deleted is not there any more: the URL gets another.
    database.execute("UPDATE webhook_endpoints SET disabled_reason = 'deleted'")
    assert web.post("/v1/jobs", json=SHORT | {"webhook_url": URL}).status_code == 202
    assert [state for *_, state in endpoints(database)] == ["disabled", "enabled"]


def test_a_request_under_a_key_that_is_refused_makes_no_endpoint(web: WebClient, database: psycopg.Connection) -> None:
    key = {"Idempotency-Key": "one"}
    database.execute("UPDATE accounts SET overrides = '{\"tokens_per_month\": 1}'")
    assert web.post("/v1/jobs", key, json=SHORT | {"webhook_url": URL}).status_code == 429
    assert endpoints(database) == []
    database.execute("UPDATE accounts SET overrides = '{}'")
    answers = [web.post("/v1/jobs", key, json=SHORT | {"webhook_url": URL}) for _ in range(2)]
    assert answers[0].get_json() == answers[1].get_json()
    assert len(endpoints(database)) == 1
