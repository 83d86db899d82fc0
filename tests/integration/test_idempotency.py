"""Idempotency-Key: what comes again is not done again, and is answered as it was."""

import io
import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from common import accounts, batch_pauses, idempotency, ids, keys, platform, storage, webhook_endpoints, webhook_samples
from common.audit import COMMAND_LINE
from common.database import as_owner, whole_of_account
from common.errors import KeyReused
from common.idempotency import Answer
from common.together import together
from tests import work
from tests.databases import one
from tests.process_settings import process_settings
from tests.web_client import WebClient, refused
from web.auth import ACCESS
from worker import retention
from worker.outcomes import record

JOB: dict[str, Any] = {"model": "sim", "prompt": "Hi"}
OTHER_JOB = JOB | {"prompt": "Ho"}
KEY = {"Idempotency-Key": "the first"}


def submit(web: WebClient, sent: dict[str, Any] = JOB, path: str = "/v1/jobs", **headers: str) -> TestResponse:
    return web.post(path, headers=KEY | {name.replace("_", "-"): value for name, value in headers.items()}, json=sent)


def is_replay_of(again: TestResponse, first: TestResponse) -> None:
    """The same answer, but for what says that it is one given again."""
    assert first.status_code < 300, first.text
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.headers.get("Location") == first.headers.get("Location")
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


def jobs_of(database: psycopg.Connection) -> int:
    (count,) = one(database, "SELECT count(*) FROM jobs")
    assert isinstance(count, int)
    return count


def test_a_submission_that_comes_again_is_the_same_job_under_either_name_of_its_address(
    web: WebClient, database: psycopg.Connection
) -> None:
    first = submit(web)
    for path in ("/v1/jobs", "/jobs", "/v1/jobs"):
        is_replay_of(submit(web, path=path), first)
    assert jobs_of(database) == 1


def test_without_a_key_each_submission_is_its_own_job(web: WebClient, database: psycopg.Connection) -> None:
    for _ in range(2):
        assert web.post("/v1/jobs", json=JOB).status_code == 202
    assert jobs_of(database) == 2
    assert one(database, "SELECT count(*) FROM idempotency_keys") == (0,)


@pytest.mark.parametrize(
    "send",
    [
        lambda web: submit(web, OTHER_JOB),
        lambda web: submit(web, path="/v1/jobs?x=1"),
        lambda web: submit(web, path="/v1/batches"),
        lambda web: submit(web, path="/v1/batches/estimate"),
        lambda web: web.post("/v1/files", headers=KEY, data=form(b"{}")),
        lambda web: web.post(f"/v1/jobs/{ids.show('job_', ids.new_id())}/cancel", headers=KEY),
    ],
    ids=["body", "query", "route", "without effect", "form", "empty body"],
)
def test_a_key_that_came_with_another_request_is_refused_and_nothing_is_done(
    web: WebClient, database: psycopg.Connection, send: Callable[[WebClient], TestResponse]
) -> None:
    first = submit(web)
    response = send(web)
    error = refused(response, 422)
    assert (error["code"], error["param"]) == ("idempotency_key_reused", "Idempotency-Key")
    assert response.headers["x-should-retry"] == "false"
    assert jobs_of(database) == 1
    assert one(database, "SELECT count(*) FROM files") == (0,)
    is_replay_of(submit(web), first)


def test_an_error_is_not_kept_and_the_mended_request_may_have_its_key(
    web: WebClient, database: psycopg.Connection
) -> None:
    for _ in range(2):
        refused(submit(web, {"model": "sim"}), 400)
        assert one(database, "SELECT count(*) FROM idempotency_keys") == (0,)
    first = submit(web)
    is_replay_of(submit(web), first)
    assert jobs_of(database) == 1


def test_accounts_do_not_share_their_keys(web: WebClient, database: psycopg.Connection) -> None:
    other = WebClient()
    ours, theirs = submit(web), submit(other, OTHER_JOB)
    assert "Idempotency-Replayed" not in theirs.headers
    is_replay_of(submit(web), ours)
    is_replay_of(submit(other, OTHER_JOB), theirs)
    assert jobs_of(database) == 2


@pytest.mark.parametrize("key", ["", "é", "a\tb", "\x7f", "a\xa0b", "x" * 256], ids=repr)
def test_a_key_that_cannot_be_is_refused_naming_the_header(
    web: WebClient, database: psycopg.Connection, key: str
) -> None:
    error = refused(web.post("/v1/jobs", headers={"Idempotency-Key": key}, json=JOB), 400)
    assert (error["code"], error["param"]) == ("invalid_idempotency_key", "Idempotency-Key")
    assert jobs_of(database) == 0


@pytest.mark.parametrize("key", ["x", "x" * 255, "two words", "%00'; --", "~!@#$%^&*()"])
def test_a_key_is_any_printable_text_up_to_255_characters(web: WebClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    first = web.post("/v1/jobs", headers=headers, json=JOB)
    is_replay_of(web.post("/v1/jobs", headers=headers, json=JOB), first)


def test_a_key_means_nothing_to_what_only_reads(web: WebClient, database: psycopg.Connection) -> None:
    job = submit(web).get_json()
    assert web.get(f"/v1/jobs/{job['id']}").status_code == 200
    assert web.request("GET", "/v1/jobs", headers=KEY).status_code == 200
    assert one(database, "SELECT count(*) FROM idempotency_keys") == (1,)


def test_after_24_hours_a_key_is_as_good_as_new(web: WebClient, database: psycopg.Connection) -> None:
    first = submit(web)
    database.execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    is_replay_of(submit(web), first)
    database.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours'")
    second = submit(web, OTHER_JOB)
    assert second.get_json()["id"] != first.get_json()["id"]
    is_replay_of(submit(web, OTHER_JOB), second)
    refused(submit(web), 422)
    assert jobs_of(database) == 2


def test_a_key_that_is_as_good_as_new_is_not_taken_by_an_error(web: WebClient, database: psycopg.Connection) -> None:
    submit(web)
    database.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    refused(submit(web, {"model": "sim"}), 400)
    assert "Idempotency-Replayed" not in submit(web, OTHER_JOB).headers
    assert jobs_of(database) == 2


def test_keys_are_deleted_after_24_hours_and_not_before(
    web: WebClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KEYS_PER_STEP", 2)
    for number in range(7):
        web.post("/v1/jobs", headers={"Idempotency-Key": str(number)}, json=JOB)
    database.execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours' WHERE key IN ('5', '6')")
    database.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours' WHERE key < '5'")
    retention.run()
    assert database.execute("SELECT key FROM idempotency_keys ORDER BY key").fetchall() == [("5",), ("6",)]


def test_what_was_answered_cannot_be_read_in_the_database(web: WebClient, database: psycopg.Connection) -> None:
    job = submit(web).get_json()
    (row,) = one(database, "SELECT encode(response, 'escape') FROM idempotency_keys")
    assert isinstance(row, str)
    assert len(row) > 100
    assert job["id"] not in row


def test_under_another_secret_key_an_old_answer_is_nobodys(web: WebClient, settings: dict[str, str]) -> None:
    request = idempotency.Request(web.caller.account_id, "old", b"what it says")
    kept = Answer(202, {"Location": "/v1/jobs/1"}, b"{}")
    with together(whole_of_account(web.caller.account_id, request.claim)):
        request.store(kept)
    assert request.find() == kept
    other = settings | {"SECRET_KEY": "another secret of 32 characters!!"}
    with process_settings(other), pytest.raises(KeyReused):
        request.find()


def form(content: bytes, **fields: str) -> dict[str, Any]:
    return {"purpose": "batch"} | fields | {"file": (io.BytesIO(content), "rows.jsonl")}


def test_a_file_that_comes_again_between_other_boundaries_is_stored_once(
    web: WebClient, database: psycopg.Connection
) -> None:
    content = b"x" * (3 << 20)

    def send(boundary: str, names: tuple[str, ...] = ("purpose", "file")) -> TestResponse:
        parts = {
            "purpose": b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
            "file": b'Content-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n' + content + b"\r\n",
        }
        line = b"--" + boundary.encode()
        body = b"".join(line + b"\r\n" + parts[name] for name in names) + line + b"--\r\n"
        kind = f"multipart/form-data; boundary={boundary}"
        return web.post("/v1/files", headers=KEY, data=body, content_type=kind)

    first = send("one")
    is_replay_of(send("another"), first)
    is_replay_of(send("one", ("file", "purpose")), first)
    (key, size) = one(database, "SELECT storage_key, bytes FROM files")
    assert size == len(content)
    assert isinstance(key, str)
    with storage.open_content(key) as stored:
        assert stored.read() == content


@pytest.mark.parametrize(
    "sent",
    [
        form(b'{"b": 1}'),
        form(b'{"a": 1}') | {"file": (io.BytesIO(b'{"a": 1}'), "other.jsonl")},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"} | form(b'{"a": 1}'),
        {"purpose": "batch", "other": (io.BytesIO(b'{"a": 1}'), "rows.jsonl")},
    ],
    ids=["content", "filename", "more fields", "name of the part"],
)
def test_a_form_that_differs_in_anything_but_its_boundary_is_another_request(
    web: WebClient, database: psycopg.Connection, sent: dict[str, Any]
) -> None:
    assert web.post("/v1/files", headers=KEY, data=form(b'{"a": 1}')).status_code == 200
    refused(web.post("/v1/files", headers=KEY, data=sent), 422)
    assert one(database, "SELECT count(*) FROM files") == (1,)


INLINE = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "requests": [work.request(0)]}
CSV = b"text\na\nb\n"


def csv() -> dict[str, Any]:
    return {"model": "sim", "prompt": "{{text}}", "file": (io.BytesIO(CSV), "rows.csv")}


def queued_job(web: WebClient) -> str:
    return ids.show("job_", work.single(web.caller))


def running_batch(web: WebClient) -> str:
    return ids.show("batch_", work.requests(web.caller, [work.request(0)]))


def priced_batch(web: WebClient) -> str:
    return ids.show("batch_", work.bulk(web.caller, 1, model="gpt-4o-mini"))


def failed_batch(web: WebClient) -> str:
    shown = running_batch(web)
    (claim,) = work.take()
    record([work.outcome(claim, 0, "failed")])
    return shown


def paused_batch(web: WebClient) -> str:
    shown = running_batch(web)
    batch_pauses.pause(web.caller.account_id, shown)
    return shown


def another_key(web: WebClient) -> str:
    return keys.issue(COMMAND_LINE, web.caller.account_id, "another", ("jobs",)).key.shown_id


def another_account(web: WebClient) -> str:
    return ids.show("acct_", work.caller().account_id)


def suspended_account(web: WebClient) -> str:
    shown = another_account(web)
    accounts.suspend(COMMAND_LINE, ids.parse("acct_", shown), "unpaid")
    return shown


def stopped_platform(web: WebClient) -> str:
    platform.stop(COMMAND_LINE, "an invoice")
    return ""


ENDPOINT: webhook_endpoints.Changes = {"url": "https://example.com/hook", "event_types": ["job.completed"]}


def endpoint(web: WebClient) -> str:
    return webhook_endpoints.create(COMMAND_LINE, web.caller.account_id, ENDPOINT).endpoint.shown_id


def disabled_endpoint(web: WebClient) -> str:
    return webhook_endpoints.disable(COMMAND_LINE, web.caller.account_id, endpoint(web)).shown_id


def failed_delivery(web: WebClient) -> str:
    shown = webhook_samples.send(COMMAND_LINE, web.caller.account_id, endpoint(web), None)
    with as_owner() as connection:
        connection.execute(text("UPDATE deliveries SET state = 'failed', next_attempt_at = NULL, ended_at = now()"))
    return shown


NEW_KEY = {"name": "new", "scopes": ["jobs"]}


def nothing(web: WebClient) -> str:
    return ""


# Every POST that there is: by its route, what it acts on, and what is sent. A file can be sent only once.
POSTS: dict[str, tuple[Callable[[WebClient], str], Callable[[], dict[str, Any]]]] = {
    "/jobs": (nothing, lambda: {"json": JOB}),
    "/jobs/<job_id>/cancel": (queued_job, dict),
    "/files": (nothing, lambda: {"data": form(b"{}")}),
    "/batches": (nothing, lambda: {"json": INLINE}),
    "/batches of a CSV": (nothing, lambda: {"data": csv()}),
    "/batches/estimate": (nothing, lambda: {"json": INLINE}),
    "/batches/estimate of a CSV": (nothing, lambda: {"data": csv()}),
    "/batches/<batch_id>": (priced_batch, lambda: {"json": {"max_cost": "1"}}),
    "/batches/<batch_id>/cancel": (running_batch, dict),
    "/batches/<batch_id>/pause": (running_batch, dict),
    "/batches/<batch_id>/resume": (paused_batch, dict),
    "/batches/<batch_id>/retry": (failed_batch, dict),
    "/api_keys": (nothing, lambda: {"json": NEW_KEY}),
    "/api_keys/<key_id>/rotate": (another_key, lambda: {"json": {}}),
    "/webhook_endpoints": (nothing, lambda: {"json": ENDPOINT}),
    "/webhook_endpoints/<endpoint_id>": (endpoint, lambda: {"json": {"description": "another"}}),
    "/webhook_endpoints/<endpoint_id>/enable": (disabled_endpoint, dict),
    "/webhook_endpoints/<endpoint_id>/disable": (endpoint, dict),
    "/webhook_endpoints/<endpoint_id>/rotate_secret": (endpoint, lambda: {"json": {}}),
    "/webhook_endpoints/<endpoint_id>/test": (endpoint, lambda: {"json": {}}),
    "/webhook_deliveries/<delivery_id>/redeliver": (failed_delivery, dict),
    "/webhook_deliveries/replay": (failed_delivery, lambda: {"json": {"since": 0}}),
    "/webhook_secret/rotate": (nothing, lambda: {"json": {}}),
    "/admin/accounts": (nothing, lambda: {"json": {"name": "Acme"}}),
    "/admin/accounts/<account_id>/api_keys": (another_account, lambda: {"json": NEW_KEY}),
    "/admin/accounts/<account_id>/suspend": (another_account, lambda: {"json": {"reason": "unpaid"}}),
    "/admin/accounts/<account_id>/resume": (suspended_account, dict),
    "/admin/platform/stop": (nothing, lambda: {"json": {"reason": "an invoice"}}),
    "/admin/platform/resume": (stopped_platform, dict),
}
# These want something that sells: tests/acceptance/test_billing.py sends them twice.
AT_STRIPE = {"/billing/checkout", "/billing/plan", "/billing/portal"}


@pytest.mark.parametrize("post", POSTS)
def test_every_post_is_done_once_and_answered_the_same_again(
    settings: dict[str, str], database: psycopg.Connection, post: str
) -> None:
    web = WebClient(scopes=keys.SCOPES)
    prepare, sent = POSTS[post]
    path = "/v1" + re.sub("<.*>", prepare(web), post.split(" ")[0])
    before = rows_of(database)
    first = web.post(path, headers=KEY, **sent())
    made = rows_of(database)
    assert (made == before) == ("estimate" in post)
    for _ in range(2):
        is_replay_of(web.post(path, headers=KEY, **sent()), first)
    assert rows_of(database) == made


def rows_of(database: psycopg.Connection) -> list[tuple[Any, ...]]:
    """All that a POST could change."""
    return database.execute(
        "SELECT id::text, state, retrying::text || coalesce(max_cost, 0) FROM batches"
        " UNION ALL SELECT id::text, storage_key, purpose FROM files"
        " UNION ALL SELECT batch_id::text, seq::text, outcome FROM results"
        " UNION ALL SELECT id::text, prefix, expires_at::text FROM api_keys"
        " UNION ALL SELECT id::text, name, state FROM accounts"
        " UNION ALL SELECT id::text, actor, action FROM audit_log"
        " UNION ALL SELECT id::text, description, state || md5(secret) FROM webhook_endpoints"
        " UNION ALL SELECT account_id::text, 'webhook secret', md5(secret) FROM webhook_secrets"
        " UNION ALL SELECT id::text, next_attempt_at::text, state FROM deliveries"
        " UNION ALL SELECT 'platform', stopped_at::text, stopped_reason FROM platform ORDER BY 1, 2, 3"
    ).fetchall()


def test_the_posts_tested_here_are_all_that_a_key_may_send(settings: dict[str, str]) -> None:
    from web.app import create_app

    app = create_app()
    posts = [rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    access = {rule.rule: getattr(app.view_functions[rule.endpoint], ACCESS, None) for rule in posts}
    of_keys = {rule.removeprefix("/v1") for rule, found in access.items() if found is not None and found.keys}
    assert of_keys == {post.split(" ")[0] for post in POSTS} | AT_STRIPE
