"""/v1/webhook_deliveries: the log of what was sent, and sending it again."""

from typing import Any

import psycopg
import pytest

from common import queue, webhook_deliveries
from common.webhook_events import EVENT_TYPES
from tests.databases import one
from tests.integration.test_webhook_endpoints import act, finish_a_job, make
from tests.web_client import WebClient, refused

DELIVERIES = "/v1/webhook_deliveries"


def sample(web: WebClient, endpoint_id: str, **sent: Any) -> str:
    """The delivery of a sample event that waits to be sent."""
    return str(act(web, endpoint_id, "test", 202, **sent)["id"])


def uuid(shown: str) -> str:
    return shown.rpartition("_")[2]


def attempted(
    database: psycopg.Connection, delivery_id: str, state: str, failure: str | None, answer: bytes | None = None
) -> None:
    """One more attempt is over, as the deliverer would record it, and with it the delivery is in a last state."""
    (number,) = one(
        database,
        "UPDATE deliveries SET state = %s, attempts = attempts + 1, scheduled = scheduled + 1, next_attempt_at = NULL,"
        " ended_at = now() WHERE id = %s RETURNING attempts",
        state,
        uuid(delivery_id),
    )
    database.execute(
        "INSERT INTO attempts (delivery_id, number, account_id, started_at, milliseconds, status_code, failure, answer)"
        " SELECT id, %s, account_id, now(), 12, %s, %s, %s FROM deliveries WHERE id = %s",
        [number, 200 if failure is None else 500, failure, answer, uuid(delivery_id)],
    )


def failed_at(database: psycopg.Connection, delivery_id: str, moment: int) -> None:
    """It failed at this moment, in Unix seconds."""
    attempted(database, delivery_id, "failed", "bad_status")
    database.execute("UPDATE deliveries SET ended_at = to_timestamp(%s) WHERE id = %s", [moment, uuid(delivery_id)])


def listed(web: WebClient, **query: str | int) -> list[str]:
    response = web.get(DELIVERIES, **query)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.get_json()["data"]]


def shown(web: WebClient, delivery_id: str) -> dict[str, Any]:
    response = web.get(f"{DELIVERIES}/{delivery_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def replay(web: WebClient, **sent: Any) -> tuple[int, bool]:
    response = web.post(f"{DELIVERIES}/replay", json=sent)
    assert response.status_code == 202, response.text
    return response.get_json()["replayed"], response.get_json()["has_more"]


def test_a_delivery_shows_its_attempts_with_what_came_back(web: WebClient, database: psycopg.Connection) -> None:
    delivery_id = sample(web, make(web)["id"])
    attempted(database, delivery_id, "failed", "timed_out")
    attempted(database, delivery_id, "failed", "bad_status", b"caf\xc3\xa9 \x00 \xff" + b"x" * 1_000 + b"\xc3")
    attempted(database, delivery_id, "delivered", None, b"ok")
    found = shown(web, delivery_id)
    assert (found["status"], found["attempt_count"]) == ("delivered", 3)
    assert (found["last_status_code"], found["last_failure"]) == (200, None)
    assert [(item["number"], item["failure"]) for item in found["attempts"]] == [
        (1, "timed_out"), (2, "bad_status"), (3, None)
    ]  # fmt: skip
    assert found["attempts"][0]["answer"] is None
    assert found["attempts"][1]["answer"].startswith("café \x00 �x")
    assert found["attempts"][2]["answer"] == "ok"
    attempts = found.pop("attempts")
    assert web.get(DELIVERIES).get_json()["data"] == [found]
    assert attempts[0]["milliseconds"] == 12


def test_deliveries_are_filtered_by_endpoint_event_type_and_status(
    web: WebClient, database: psycopg.Connection
) -> None:
    one_endpoint, other = make(web)["id"], make(web, event_types=["job.completed"])["id"]
    first = sample(web, one_endpoint, event_type="batch.failed")
    second = sample(web, other)
    attempted(database, second, "failed", "dns_failed")
    finish_a_job(web)
    fourth, third = listed(web, limit=2)
    assert listed(web) == [fourth, third, second, first]
    assert listed(web, limit=2, after=third) == [second, first]
    assert {fourth, third} == set(listed(web, event_id=shown(web, third)["event"]["id"]))
    of_other = fourth if shown(web, fourth)["endpoint_id"] == other else third
    assert listed(web, endpoint_id=other) == [of_other, second]
    assert listed(web, event_type="batch.failed") == [first]
    assert listed(web, status="failed") == [second]
    assert listed(web, status="failed", endpoint_id=one_endpoint) == []
    assert listed(web, event_type="job.completed", status="pending", endpoint_id=other) == [of_other]
    assert listed(web, endpoint_id="we_" + "0" * 32) == []
    for wrong in ({"endpoint_id": "x"}, {"event_id": other}, {"event_type": "x"}, {"status": "x"}, {"after": other}):
        assert refused(web.get(DELIVERIES, **wrong), 400)["param"] in wrong


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_sample_of_every_event_goes_to_the_one_endpoint_and_says_that_it_is_one(
    web: WebClient, event_type: str
) -> None:
    endpoint_id, _ = make(web)["id"], make(web)
    found = act(web, endpoint_id, "test", 202, event_type=event_type)
    assert (found["endpoint_id"], found["event"]["type"]) == (endpoint_id, event_type)
    assert (found["status"], found["attempts"]) == ("pending", [])
    data = found["event"]["data"]
    assert data["sample"] is True
    of = {"batch": "batch_", "job": "job_", "usage": "acct_"}
    assert data["id"].startswith(of.get(event_type.partition(".")[0], "we_"))
    assert len(listed(web)) == 1


def test_a_sample_wakes_a_deliverer_once_it_is_committed(web: WebClient) -> None:
    sample(web, make(web)["id"])
    assert queue.waiting()[queue.DELIVERIES_QUEUE] == 1


def test_a_redelivery_is_the_same_event_with_a_whole_schedule(web: WebClient, database: psycopg.Connection) -> None:
    delivery_id = sample(web, make(web)["id"])
    event = shown(web, delivery_id)["event"]
    for state, failure in (("delivered", None), ("failed", "timed_out")):
        attempted(database, delivery_id, state, failure)
        queue.redis().flushdb()
        response = web.post(f"{DELIVERIES}/{delivery_id}/redeliver")
        assert response.status_code == 202, response.text
        again = response.get_json()
        assert (again["status"], again["event"], again["ended_at"]) == ("pending", event, None)
        assert again["next_attempt_at"] is not None
        assert queue.waiting()[queue.DELIVERIES_QUEUE] == 1
    assert one(database, "SELECT attempts, scheduled FROM deliveries") == (2, 0)
    database.execute("UPDATE deliveries SET next_attempt_at = now() + interval '1 hour', scheduled = 1")
    assert web.post(f"{DELIVERIES}/{delivery_id}/redeliver").status_code == 202
    assert one(database, "SELECT next_attempt_at <= now(), scheduled FROM deliveries") == (True, 0)


def test_what_is_being_sent_or_has_no_enabled_endpoint_is_not_sent_again(
    web: WebClient, database: psycopg.Connection
) -> None:
    endpoint_id = make(web)["id"]
    delivery_id = sample(web, endpoint_id)
    database.execute("UPDATE deliveries SET state = 'sending', next_attempt_at = NULL, lease_until = now()")
    error = refused(web.post(f"{DELIVERIES}/{delivery_id}/redeliver"), 409)
    assert "under way" in error["message"]
    database.execute("UPDATE deliveries SET lease_until = NULL, state = 'failed', ended_at = now()")
    act(web, endpoint_id, "disable")
    for path, sent in ((f"{delivery_id}/redeliver", {}), ("replay", {"since": 0, "endpoint_id": endpoint_id})):
        error = refused(web.post(f"{DELIVERIES}/{path}", json=sent), 409)
        assert error["code"] == "webhook_endpoint_disabled"
        assert f"/v1/webhook_endpoints/{endpoint_id}/enable" in error["message"]
    assert replay(web, since=0) == (0, False)
    act(web, endpoint_id, "enable")
    assert replay(web, since=0) == (1, False)


def test_a_replay_sends_what_failed_in_its_range_and_nothing_else(web: WebClient, database: psycopg.Connection) -> None:
    endpoints = [make(web)["id"] for _ in range(2)]
    made = [sample(web, endpoints[number % 2]) for number in range(5)]
    for number, delivery_id in enumerate(made[:4]):
        failed_at(database, delivery_id, 1_000 + number)
    attempted(database, made[4], "delivered", None)

    def failed() -> list[str]:
        return listed(web, status="failed")[::-1]

    queue.redis().flushdb()
    assert replay(web, since=1_004) == (0, False)
    assert queue.waiting()[queue.DELIVERIES_QUEUE] == 0
    assert replay(web, since=1_001, until=1_003, endpoint_id=endpoints[0]) == (1, False)
    assert failed() == [made[0], made[1], made[3]]
    assert replay(web, since=1_000, until=1_001) == (1, False)
    assert failed() == [made[1], made[3]]
    assert replay(web, since=0) == (2, False)
    assert failed() == []
    assert shown(web, made[4])["status"] == "delivered"
    assert queue.waiting()[queue.DELIVERIES_QUEUE] > 0


def test_a_replay_of_very_many_says_that_there_are_more(
    web: WebClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_deliveries, "MAX_REPLAYED", 2)
    endpoint_id = make(web)["id"]
    made = [sample(web, endpoint_id) for _ in range(3)]
    for number, delivery_id in enumerate(made):
        failed_at(database, delivery_id, 1_000 - number)
    assert replay(web, since=0) == (2, True)
    assert listed(web, status="failed") == [made[0]]
    assert replay(web, since=0) == (1, False)


@pytest.mark.parametrize(
    ("sent", "status", "param"),
    [
        ({}, 400, "since"),
        ({"since": -1}, 400, "since"),
        ({"since": 10_000_000_000}, 400, "since"),
        ({"since": "yesterday"}, 400, "since"),
        ({"since": 2, "until": 2}, 400, "until"),
        ({"since": 0, "endpoint_id": "we_" + "0" * 32}, 404, "endpoint_id"),
        ({"since": 0, "endpoint_id": "\ud800"}, 400, "endpoint_id"),
        ({"since": 0, "state": "failed"}, 400, "state"),
    ],
)
def test_a_bad_replay_is_refused_naming_the_field(
    web: WebClient, sent: dict[str, Any], status: int, param: str
) -> None:
    assert refused(web.post(f"{DELIVERIES}/replay", json=sent), status)["param"] == param
