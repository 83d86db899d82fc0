"""Events of the stand-in for Stripe: signed so that the stripe package takes them, and told until they are heard."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from tests import receivers
from tests.receivers import Receiver, status
from tests.stripe_process import StandIn, running_standin
from tests.stripe_shop import Shop
from tests.waiting import wait_for

SECRET = "whsec_of_the_tests"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receivers.running() as running:
        yield running


@pytest.fixture
def told(receiver: Receiver, tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in that tells all to the path of the test's folder."""
    with running_standin(tmp_path / "stripe.sqlite", webhook=(receiver.at(f"/{tmp_path.name}"), SECRET)) as standin:
        yield standin


def test_an_event_is_signed_for_its_endpoint_and_is_a_snapshot(
    told: StandIn, receiver: Receiver, tmp_path: Path
) -> None:
    customer = told.client().v1.customers.create({"email": "ada@example.com"}, {"idempotency_key": "one"})
    told.client().v1.customers.update(customer.id, {"email": "ada@example.org"})
    requests = receiver.wait_for(f"/{tmp_path.name}", 2)
    events = {}
    for request in requests:
        event = stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], SECRET)
        events[event.type] = event
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], "whsec_other")
    made, changed = events["customer.created"], events["customer.updated"]
    assert made.data.object["email"] == "ada@example.com"
    assert changed.data.object["email"] == "ada@example.org"
    assert changed.data.to_dict()["previous_attributes"] == {"email": "ada@example.com"}
    assert made.api_version == stripe.api_version
    assert made.request is not None
    assert made.request.idempotency_key == "one"
    assert made.id < changed.id


def test_what_is_not_answered_with_2xx_is_told_again(told: StandIn, receiver: Receiver, tmp_path: Path) -> None:
    receiver.at(f"/{tmp_path.name}", status(500), status(302), receivers.said(b""), status(204))
    told.client().v1.customers.create({"email": "ada@example.com"})
    requests = receiver.wait_for(f"/{tmp_path.name}", 4)
    assert len({json.loads(request.body)["id"] for request in requests}) == 1
    (delivery,) = wait_for(lambda: _deliveries(told), lambda found: found[0]["state"] == "delivered")
    assert (delivery["attempts"], delivery["told"]) == (4, "204")


def test_events_may_come_more_than_once_and_in_another_order(told: StandIn, receiver: Receiver, tmp_path: Path) -> None:
    told.admin("PUT", "settings", tell_times=3, tell_within_seconds=0.5)
    made = [told.client().v1.customers.create({"name": f"Customer {number}"}).id for number in range(12)]
    requests = receiver.wait_for(f"/{tmp_path.name}", 36)
    heard = [json.loads(request.body)["data"]["object"]["id"] for request in requests]
    assert sorted(heard) == sorted(made * 3)
    assert heard != sorted(heard)


def test_what_was_not_told_before_a_death_is_told_after_it(told: StandIn, receiver: Receiver, tmp_path: Path) -> None:
    receiver.at(f"/{tmp_path.name}", status(503), status(200))
    told.client().v1.customers.create({"email": "ada@example.com"})
    receiver.wait_for(f"/{tmp_path.name}", 1)
    told.kill()
    told.start()
    receiver.wait_for(f"/{tmp_path.name}", 2)
    wait_for(lambda: _deliveries(told), lambda found: found[0]["state"] == "delivered")


def test_an_endpoint_hears_of_what_it_wants_with_a_secret_that_is_told_once(shop: Shop, receiver: Receiver) -> None:
    path = f"/{shop.event_name}"
    v1 = shop.v1
    made = v1.webhook_endpoints.create({"url": receiver.at(path), "enabled_events": ["product.created"]})
    assert made.secret is not None
    assert made.secret.startswith("whsec_")
    assert "secret" not in v1.webhook_endpoints.retrieve(made.id).to_dict()
    assert "secret" not in v1.webhook_endpoints.list().data[0].to_dict()
    shop.customer()
    product = v1.products.create({"name": "Pro"}).id
    (request,) = receiver.wait_for(path, 1)
    event = stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], made.secret)
    assert event.data.object["id"] == product
    v1.webhook_endpoints.delete(made.id)
    v1.products.create({"name": "Team"})
    assert [one["endpoint"] for one in _deliveries(shop.standin)].count(made.id) == 1


@pytest.mark.parametrize("url", ["", "ftp://example.com", "http://", "example.com", "http://[::1"])
def test_an_endpoint_has_an_address_of_http(shop: Shop, url: str) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})


def _deliveries(standin: StandIn) -> list[dict[str, object]]:
    found: list[dict[str, object]] = standin.admin("GET", "deliveries")["deliveries"]
    return found
