"""Webhook endpoints through the official Python client."""

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from common.webhook_events import EVENT_TYPES
from tests.sdk.conftest import NewSdk

URL = "https://example.com/webhooks"


def test_an_endpoint_lives_its_life_through_the_client(new_sdk: NewSdk) -> None:
    webhooks = new_sdk().webhooks
    made = webhooks.create(name="orders", url=URL, event_types=["batch.completed", "batch.failed"])
    assert made.signing_secret.startswith("whsec_")
    assert (made.name, made.url, made.event_types) == ("orders", URL, ["batch.completed", "batch.failed"])
    assert webhooks.retrieve(made.id).created_at == made.created_at
    changed = webhooks.update(made.id, name="both", url=URL + "/2", event_types=["batch.expired"])
    assert (changed.name, changed.url, changed.event_types) == ("both", URL + "/2", ["batch.expired"])
    assert webhooks.rotate_secret(made.id).signing_secret != made.signing_secret
    webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=False)
    deleted = webhooks.delete(made.id)
    assert (deleted.id, deleted.deleted) == (made.id, True)
    with pytest.raises(NotFoundError):
        webhooks.retrieve(made.id)


def test_the_client_turns_the_pages_of_endpoints(new_sdk: NewSdk) -> None:
    webhooks = new_sdk().webhooks
    made = [webhooks.create(name=f"{number}", url=URL, event_types=["batch.failed"]).id for number in range(3)]
    assert [endpoint.id for endpoint in webhooks.list(limit=2)] == made[::-1]


def test_the_client_lists_the_types_of_events(sdk: OpenAI) -> None:
    assert sdk.webhooks.event_types.list().data == list(EVENT_TYPES)


def test_a_type_of_event_that_there_is_not_is_refused(sdk: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        sdk.webhooks.create(name="x", url=URL, event_types=["video.completed"])
    assert refused.value.param == "event_types.0"
