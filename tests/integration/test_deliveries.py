"""What is delivered, how it is signed, and what is made of every kind of receiver: real servers, real connections."""

import gc
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from standardwebhooks import Webhook

from common import ids, webhook_secrets
from tests import receivers, webhooks
from tests.certificates import Certificates
from tests.receivers import Answer, Receiver, drip, flood, hang, reset, said, status
from tests.waiting import wait_for
from worker import sender
from worker.deliverer import Deliverer

NO_SUCH_HOST = "nowhere.invalid"


@pytest.fixture(autouse=True)
def env(env: dict[str, str]) -> dict[str, str]:
    return env | {"WEBHOOK_ALLOWED_HOSTS": f"127.0.0.1,localhost,{NO_SUCH_HOST}"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receivers.running() as running:
        yield running


@pytest.fixture
def delivering(settings: dict[str, str]) -> Iterator[Deliverer]:
    """A deliverer in the test's own process."""
    running = Deliverer(64)
    yield running
    running.drain()


@pytest.fixture
def account(settings: dict[str, str]) -> UUID:
    return webhooks.account()


def settled(database: psycopg.Connection, endpoint_id: UUID, attempts: int = 1) -> dict[str, Any]:
    """The delivery to the endpoint once so many attempts are recorded and none is under way."""
    return wait_for(
        lambda: webhooks.delivery(database, endpoint_id),
        lambda found: len(found["log"]) >= attempts and found["state"] != "sending",
    )


def test_an_event_arrives_signed_in_the_form_of_standard_webhooks(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    endpoint_id = webhooks.endpoint(database, account, receiver.at("/hook?x=1"))
    event_id = webhooks.event(database, account)
    delivering.wake()
    (request,) = receiver.wait_for("/hook?x=1", 1)
    assert request.headers["content-type"] == "application/json"
    assert request.webhook_id == ids.show("evt_", event_id)
    body = Webhook(webhooks.SECRET).verify(request.body, request.headers)
    assert body["id"] == request.webhook_id
    assert body["object"] == "event"
    assert body["type"] == "batch.completed"
    assert body["data"]["id"].startswith("batch_")

    found = settled(database, endpoint_id)
    assert found["state"] == "delivered"
    assert [(a["status_code"], a["failure"]) for a in found["log"]] == [(200, None)]


def test_an_event_goes_to_all_who_want_it_under_one_id_and_to_nobody_else(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    wanting = [webhooks.endpoint(database, account, receiver.at(f"/{number}")) for number in range(3)]
    webhooks.endpoint(database, account, receiver.at("/other"), ("batch.failed",))
    webhooks.endpoint(database, webhooks.account(), receiver.at("/stranger"))
    webhooks.event(database, account)
    delivering.wake()
    for endpoint_id in wanting:
        assert settled(database, endpoint_id)["state"] == "delivered"
    assert sorted(request.path for request in receiver.received) == ["/0", "/1", "/2"]
    assert len({request.webhook_id for request in receiver.received}) == 1
    assert len({request.body for request in receiver.received}) == 1


def test_during_a_rotation_both_secrets_sign_and_after_it_the_new_one_alone(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    old = webhook_secrets.new()
    now = datetime.now(UTC)
    previous = webhook_secrets.seal(old)
    for path, until in (("/during", now + timedelta(hours=1)), ("/after", now - timedelta(seconds=1))):
        webhooks.endpoint(database, account, receiver.at(path), previous_secret=previous, previous_secret_until=until)
    webhooks.event(database, account)
    delivering.wake()
    (during,) = receiver.wait_for("/during", 1)
    (after,) = receiver.wait_for("/after", 1)
    for request in (during, after):
        Webhook(webhooks.SECRET).verify(request.body, request.headers)
    Webhook(old).verify(during.body, during.headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(old).verify(after.body, after.headers)


def test_a_url_that_a_job_named_is_signed_with_the_accounts_secret(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    secret = webhook_secrets.new()
    database.execute(
        "INSERT INTO webhook_secrets (account_id, secret) VALUES (%s, %s)", [account, webhook_secrets.seal(secret)]
    )
    url = receiver.at("/own")
    webhooks.endpoint(database, account, url, (), origin="submission", secret=None)
    database.execute(
        "SELECT write_event(%s, 'job.completed', NULL, '{\"id\": \"job_1\"}', true, %s, true)", [account, url]
    )
    delivering.wake()
    (request,) = receiver.wait_for("/own", 1)
    Webhook(secret).verify(request.body, request.headers)


# Of its end: a busy machine takes its time.
RECORDED_WITHIN_SECONDS = 20
MATRIX: dict[str, tuple[Answer, str | None, int | None, float | None]] = {
    # What it answers: the failure, the status, and after how many seconds the next attempt is due.
    "200": (status(200, b"thanks"), None, 200, None),
    "204": (status(204), None, 204, None),
    "299": (status(299), None, 299, None),
    "301 to a live server": (status(301, location="{live}"), "redirected", 301, 5),
    "302 to a private address": (
        status(302, location="http://169.254.169.254/"), "redirected", 302, 5
    ),
    "304": (status(304), "redirected", 304, 5),
    "400": (status(400, b"no such hook"), "bad_status", 400, 5),
    "404": (status(404), "bad_status", 404, 5),
    "410": (status(410), "gone", 410, None),
    "429 with Retry-After": (status(429, retry_after="90"), "bad_status", 429, 90),
    "503 with a date": (
        status(503, retry_after=lambda: format_datetime(datetime.now(UTC) + timedelta(hours=3))),
        "bad_status", 503, 10_800,
    ),
    "429 with a century": (status(429, retry_after="3153600000"), "bad_status", 429, 86_400),
    "429 with nonsense": (status(429, retry_after="soon\u00b2"), "bad_status", 429, 5),
    "500": (status(500), "bad_status", 500, 5),
    "500 with Retry-After": (status(500, retry_after="90"), "bad_status", 500, 5),
    "hang": (hang, "timed_out", None, 5),
    "slow drip": (drip, "timed_out", 200, 5),
    "1 GB": (flood, None, 200, None),
    "RST in mid-answer": (reset, "connection_lost", 200, 5),
    "closes at once": (said(b""), "connection_lost", None, 5),
    "no HTTP": (said(b"SSH-2.0-OpenSSH_9.6\r\n"), "not_http", None, 5),
    "an endless head": (said(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), "not_http", None, 5),
    "101": (status(101), "bad_status", 101, 5),
}  # fmt: skip


def first_attempts(database: psycopg.Connection, asked: dict[str, UUID]) -> dict[str, dict[str, Any]]:
    """The deliveries as they were after their first attempts: meanwhile others have their second."""
    found: dict[str, dict[str, Any]] = {}

    def look() -> list[str]:
        for name in asked.keys() - found.keys():
            delivery = webhooks.delivery(database, asked[name])
            if delivery["state"] != "sending" and len(delivery["log"]) == 1:
                found[name] = delivery
        return sorted(asked.keys() - found.keys())

    wait_for(look, lambda missing: not missing)
    return found


def test_every_kind_of_receiver_has_its_named_outcome_and_its_next_time(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    with receivers.running() as live:
        asked = {}
        for number, (name, (answer, *_)) in enumerate(MATRIX.items()):
            if name == "301 to a live server":
                answer = status(301, location=live.at("/elsewhere"))
            asked[name] = webhooks.endpoint(database, account, receiver.at(f"/{number}", answer))
        webhooks.event(database, account)
        delivering.wake()
        found = first_attempts(database, asked)
        for name, (_, failure, code, due) in MATRIX.items():
            (attempt,) = found[name]["log"]
            assert (attempt["failure"], attempt["status_code"]) == (failure, code), name
            assert found[name]["state"] == ("pending" if due else "failed" if name == "410" else "delivered"), name
            ended_at = attempt["started_at"] + timedelta(milliseconds=attempt["milliseconds"])
            if due is not None:
                # From when it was recorded, and up to a tenth more.
                pause = (found[name]["next_attempt_at"] - ended_at).total_seconds()
                assert 0.99 * due - 0.1 <= pause <= 1.1 * due + RECORDED_WITHIN_SECONDS, name
            limit = sender.ATTEMPT_SECONDS
            assert failure != "timed_out" or limit * 1000 <= attempt["milliseconds"] < 2 * limit * 1000, name
            assert len(attempt["answer"] or b"") <= sender.KEPT_BYTES, name
        assert live.connections == 0, "a redirect was followed"
    kept = {name: bytes(found[name]["log"][0]["answer"]) for name in ("200", "400", "1 GB")}
    assert kept == {"200": b"thanks", "400": b"no such hook", "1 GB": b"x" * sender.KEPT_BYTES}


def test_500_then_200_arrives_with_the_second_attempt_under_the_same_id(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    endpoint_id = webhooks.endpoint(database, account, receiver.at("/", status(500), status(200)))
    webhooks.event(database, account)
    delivering.wake()
    found = settled(database, endpoint_id, 2)
    assert found["state"] == "delivered"
    assert [a["failure"] for a in found["log"]] == ["bad_status", None]
    between = found["log"][1]["started_at"] - found["log"][0]["started_at"]
    assert between.total_seconds() >= 5
    first, second = receiver.of("/")
    assert first.webhook_id == second.webhook_id
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    (endpoint,) = webhooks.rows(database, "SELECT failing_since FROM webhook_endpoints")
    assert endpoint["failing_since"] is None


def test_what_cannot_be_connected_to_is_named(
    database: psycopg.Connection,
    account: UUID,
    receiver: Receiver,
    settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificates = Certificates(tmp_path)
    # As an operator names a certificate authority of their own.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file))
    with ExitStack() as opened:
        good, other, expired, unknown = (
            opened.enter_context(receivers.running(context))
            for context in (
                certificates.server("localhost"),
                certificates.server("example.com"),
                certificates.server("localhost", expired=True),
                Certificates(tmp_path / "unknown").server("localhost"),
            )
        )
        expected = {
            f"https://localhost:{good.port}/": None,
            f"https://localhost:{other.port}/": "tls_failed",
            f"https://localhost:{expired.port}/": "tls_failed",
            f"https://localhost:{unknown.port}/": "tls_failed",
            "http://127.0.0.1:1/": "connection_failed",
            f"http://{NO_SUCH_HOST}/": "dns_failed",
            "http://example.com/": "refused_scheme",
            "https://example.com:22/": "refused_port",
            "https://10.0.0.1/": "refused_private_address",
            "https://2130706433/": "refused_private_address",
            "https:///": "refused_url",
        }
        endpoints = {url: webhooks.endpoint(database, account, url) for url in expected}
        webhooks.event(database, account)
        running = Deliverer(64)
        found = {url: settled(database, endpoint_id) for url, endpoint_id in endpoints.items()}
        running.drain()
        assert {url: delivery["log"][0]["failure"] for url, delivery in found.items()} == expected
        assert all(server.received == [] for server in (other, expired, unknown, receiver))
        assert len(good.received) == 1
        # Servers whose handshake failed complain when they are collected.
        gc.collect()


def test_a_secret_of_another_secret_key_sends_nothing_unsigned(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    endpoint_id = webhooks.endpoint(database, account, receiver.at("/"), secret=b"of another key")
    webhooks.event(database, account)
    delivering.wake()
    assert settled(database, endpoint_id)["log"][0]["failure"] == "secret_unreadable"
    assert receiver.connections == 0


def test_after_the_last_attempt_of_the_schedule_it_has_failed(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    endpoint_id = webhooks.endpoint(database, account, receiver.at("/", status(500)))
    webhooks.event(database, account)
    seconds = []
    for number in range(1, 9):
        webhooks.due_now(database, endpoint_id)
        delivering.wake()
        found = settled(database, endpoint_id, number)
        seconds.append(found["due_in"])
    assert found["state"] == "failed"
    assert seconds[-1] is None
    for due_in, least in zip(seconds, (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000), strict=False):
        assert least - 5 < due_in < least * 1.1
    assert len(receiver.received) == 8


def results(database: psycopg.Connection, account: UUID, body: bytes | None, **columns: Any) -> UUID:
    batch_id = ids.new_id()
    values = {"outcome": "succeeded", "status_code": 200, "body": body, "attempts": 1, "provider": "p"} | columns
    database.execute(
        psycopg.sql.SQL(
            "INSERT INTO results (batch_id, seq, account_id, finished_at, {}) VALUES (%s, 0, %s, now(), {})"
        ).format(
            psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values)),
            psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(values)),
        ),
        [batch_id, account, *values.values()],
    )
    return batch_id


def test_who_wants_results_gets_those_of_jobs_up_to_20_kb(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    webhooks.endpoint(database, account, receiver.at("/with"), ("job.completed", "job.failed"), include_result=True)
    webhooks.endpoint(database, account, receiver.at("/thin"), ("job.completed", "job.failed"))
    answer = {"choices": [{"message": {"content": "hello"}}]}
    expected: dict[str, dict[str, Any]] = {}
    for batch_id, more in (
        (
            results(database, account, json.dumps(answer).encode(), request_id="req_1"),
            {"result": {"response": {"status_code": 200, "request_id": "req_1", "body": answer}, "error": None}},
        ),
        (
            results(database, account, None, outcome="failed", status_code=None, error_code="c", error_message="m"),
            {"result": {"response": None, "error": {"code": "c", "message": "m"}}},
        ),
        (
            results(database, account, b"<html>", outcome="failed", status_code=502, error_code="c"),
            {
                "result": {
                    "response": {"status_code": 502, "request_id": None, "body": "<html>"},
                    "error": {"code": "c", "message": None},
                }
            },
        ),
        (results(database, account, b'"%b"' % (b"x" * 19_000)), {"result": ...}),
        (results(database, account, b'"%b"' % (b"x" * 20_400)), {"result": None, "result_omitted": "too_large"}),
        (results(database, account, b"x" * 30_000), {"result": None, "result_omitted": "too_large"}),
        (ids.new_id(), {"result": None, "result_omitted": "expired"}),
    ):
        shown = ids.show("job_", batch_id)
        expected[shown] = {"id": shown} | more
        database.execute(
            "SELECT write_event(%s, 'job.completed', %s, jsonb_build_object('id', %s::text), true)",
            [account, batch_id, shown],
        )
    delivering.wake()
    for request in receiver.wait_for("/with", len(expected)):
        data = json.loads(request.body)["data"]
        if expected[data["id"]].get("result") is ...:
            assert len(data["result"]["response"]["body"]) == 19_000
        else:
            assert data == expected[data["id"]]
        assert len(request.body) <= 20 * 1024
    assert all(list(json.loads(thin.body)["data"]) == ["id"] for thin in receiver.wait_for("/thin", len(expected)))


def test_the_same_connection_is_never_used_twice(
    database: psycopg.Connection, account: UUID, receiver: Receiver, delivering: Deliverer
) -> None:
    webhooks.endpoint(database, account, receiver.at("/"))
    for _ in range(5):
        webhooks.event(database, account)
    delivering.wake()
    receiver.wait_for("/", 5)
    assert receiver.connections == 5


def test_no_proxy_of_the_environment_is_asked(
    database: psycopg.Connection,
    account: UUID,
    receiver: Receiver,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receivers.running() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.at("/"))
        endpoint_id = webhooks.endpoint(database, account, receiver.at("/"))
        webhooks.event(database, account)
        running = Deliverer(4)
        assert settled(database, endpoint_id)["state"] == "delivered"
        running.drain()
        assert proxy.connections == 0
