"""From an endpoint made through the API to what `webhooks listen` prints: nothing in between is ours to pretend."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from common.webhook_events import EVENT_TYPES
from tests.integration.test_webhook_endpoints import act, finish_a_job, make
from tests.integration.test_webhook_examples import SECRET, listening, printed
from tests.waiting import wait_for
from tests.web_client import WebClient
from worker.deliverer import Deliverer


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    return env | {"WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"}


@pytest.fixture
def deliverer(web: WebClient) -> Iterator[Deliverer]:
    running = Deliverer(8)
    yield running
    running.drain()


def ended(web: WebClient, delivery_id: str, status: str) -> dict[str, Any]:
    """The delivery once it is so."""
    path = f"/v1/webhook_deliveries/{delivery_id}"
    return wait_for(lambda: web.get(path).get_json(), lambda found: found["status"] == status)


def test_every_sample_arrives_and_verifies_and_is_logged_with_its_attempt(
    web: WebClient, deliverer: Deliverer, env: dict[str, str]
) -> None:
    with listening(env, SECRET) as (url, _):
        endpoint = make(web, url=url)
    with listening(env, endpoint["signing_secret"]) as (url, process):
        assert web.post(f"/v1/webhook_endpoints/{endpoint['id']}", json={"url": url}).status_code == 200
        for event_type in EVENT_TYPES:
            delivery = act(web, endpoint["id"], "test", 202, event_type=event_type)
            deliverer.wake()
            shown = printed(process)
            assert f" verified {delivery['event']['id']}\n" in shown
            assert json.loads(shown.partition("\n")[2]) == {"object": "event"} | delivery["event"]
            found = ended(web, delivery["id"], "delivered")
            assert [(item["status_code"], item["failure"]) for item in found["attempts"]] == [(204, None)]


def test_what_waits_for_a_disabled_endpoint_fails_and_can_be_replayed_once_it_is_enabled(
    web: WebClient, deliverer: Deliverer, env: dict[str, str]
) -> None:
    with listening(env, SECRET) as (url, _):
        endpoint = make(web, url=url)
    # Nobody listens there any more.
    delivery_id = act(web, endpoint["id"], "test", 202)["id"]
    deliverer.wake()
    path = f"/v1/webhook_deliveries/{delivery_id}"
    wait_for(lambda: web.get(path).get_json(), lambda it: it["last_failure"] == "connection_failed")
    act(web, endpoint["id"], "disable")
    failed = ended(web, delivery_id, "failed")
    assert failed["last_failure"] == "endpoint_disabled"
    act(web, endpoint["id"], "enable")
    with listening(env, endpoint["signing_secret"]) as (url, process):
        web.post(f"/v1/webhook_endpoints/{endpoint['id']}", json={"url": url})
        assert web.post("/v1/webhook_deliveries/replay", json={"since": 0}).get_json()["replayed"] == 1
        deliverer.wake()
        assert f" verified {failed['event']['id']}\n" in printed(process)
        ended(web, delivery_id, "delivered")


def test_a_rotated_secret_and_the_one_before_both_verify_what_arrives(
    web: WebClient, deliverer: Deliverer, env: dict[str, str]
) -> None:
    endpoint = make(web, url="http://127.0.0.1:9/")
    new = act(web, endpoint["id"], "rotate_secret")["signing_secret"]
    for secret in (endpoint["signing_secret"], new):
        with listening(env, secret) as (url, process):
            web.post(f"/v1/webhook_endpoints/{endpoint['id']}", json={"url": url})
            act(web, endpoint["id"], "test", 202)
            deliverer.wake()
            assert " verified " in printed(process)


def test_a_job_s_own_url_is_signed_with_the_account_s_secret(
    web: WebClient, deliverer: Deliverer, env: dict[str, str]
) -> None:
    secret = web.post("/v1/webhook_secret/rotate", json={}).get_json()["signing_secret"]
    with listening(env, secret) as (url, process):
        sent = {"model": "sim", "prompt": "Hi", "webhook_url": url}
        assert web.post("/v1/jobs", json=sent).status_code == 202
        finish_a_job(web)
        deliverer.wake()
        shown = printed(process)
        assert " verified " in shown
        assert json.loads(shown.partition("\n")[2])["type"] == "job.completed"
