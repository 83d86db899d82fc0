"""From a submission that names a URL to what arrives there: the whole product, as real processes."""

import json
from collections.abc import Iterator

import pytest
from standardwebhooks.webhooks import Webhook

from local.stack import Stack
from tests import receivers
from tests.conftest import redis_database
from tests.customer import Customer, answer
from tests.databases import cloned
from tests.receivers import Received, Receiver

ROWS = 40


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with (
        cloned(services) as urls,
        Stack(
            tmp_path_factory.mktemp("stack") / "home",
            extra_env=urls | {"REDIS_URL": redis_database(services, 6), "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"},
            deliverers=1,
            with_stripe=False,
            durable=False,
            keep=False,
        ) as running,
    ):
        yield running


@pytest.fixture
def customer(stack: Stack) -> Iterator[Customer]:
    with Customer(stack.base_url, stack.env["API_KEY"]) as customer:
        yield customer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receivers.running() as running:
        yield running


def verified(received: Received, secret: str) -> dict[str, object]:
    """The event, after its signature."""
    Webhook(secret).verify(received.body, received.headers)
    event: dict[str, object] = json.loads(received.body)
    assert (event["id"], event["object"]) == (received.webhook_id, "event")
    return event


def test_a_job_and_a_batch_are_told_of_at_their_urls(customer: Customer, receiver: Receiver) -> None:
    secret = str(answer(customer.post("/v1/webhook_secret/rotate", {}))["signing_secret"])
    job = customer.submit({"model": "sim", "prompt": "Hi", "webhook_url": receiver.at("/job")})
    (of_job,) = receiver.wait_for("/job", 1)
    assert verified(of_job, secret) | {"id": "", "created_at": 0} == {
        "id": "", "object": "event", "created_at": 0, "type": "job.completed", "data": {"id": job["id"]},
    }  # fmt: skip
    content = b"name\n" + b"".join(b"row %d\n" % number for number in range(ROWS))
    form = {"webhook_url": receiver.at("/batch"), "webhook_events": ["batch.in_progress", "batch.completed"]}
    batch = answer(
        customer.http.post(
            "/v1/batches", data={"model": "sim", "prompt": "{{name}}"} | form, files={"file": ("rows.csv", content)}
        )
    )
    told = [verified(received, secret) for received in receiver.wait_for("/batch", 2)]
    assert sorted(str(event["type"]) for event in told) == ["batch.completed", "batch.in_progress"]
    assert all(event["data"] == {"id": batch["id"]} for event in told)
