"""What we sign, verified by three libraries that we did not write: standardwebhooks, svix, and OpenAI's client."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import pytest
import standardwebhooks
import svix.webhooks
from openai import InvalidWebhookSignatureError, OpenAI

from common import ids, webhook_events, webhook_secrets
from common.webhook_events import EVENT_TYPES
from tests.databases import one
from tests.integration.test_webhook_endpoints import act, make
from tests.web_client import WebClient

# Gives the event, where the library does.
Verify = Callable[[bytes, Mapping[str, str], str], Any]


def by_standardwebhooks(body: bytes, headers: Mapping[str, str], secret: str) -> Any:
    return standardwebhooks.Webhook(secret).verify(body, dict(headers))


def by_svix(body: bytes, headers: Mapping[str, str], secret: str) -> None:
    svix.webhooks.Webhook(secret).verify(body, dict(headers))


def by_openai(body: bytes, headers: Mapping[str, str], secret: str) -> Any:
    with OpenAI(api_key="none") as client:
        return client.webhooks.unwrap(body, headers, secret=secret)


LIBRARIES: tuple[Verify, ...] = (by_standardwebhooks, by_svix, by_openai)
REFUSED = (standardwebhooks.WebhookVerificationError, InvalidWebhookSignatureError)


def sent(database: psycopg.Connection, delivery_id: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of an attempt of a delivery, as of now."""
    event_id, kind, created_at, data, *sealed = one(
        database,
        "SELECT v.id, v.type, v.created_at, v.data, e.secret,"
        " CASE WHEN e.previous_secret_until > now() THEN e.previous_secret END"
        " FROM deliveries d JOIN events v ON v.id = d.event_id JOIN webhook_endpoints e ON e.id = d.endpoint_id"
        " WHERE d.id = %s",
        ids.parse("dlv_", delivery_id),
    )
    # Columns of a row may be anything; the query says what these are.
    body = webhook_events.body(event_id, kind, created_at, data)  # type: ignore[arg-type]
    signing = [webhook_secrets.unseal(secret) for secret in sealed if isinstance(secret, bytes)]
    # As above.
    name, now = ids.show("evt_", event_id), int(time.time())  # type: ignore[arg-type]
    signature = webhook_secrets.signatures(signing, name, now, body)
    return body, {"webhook-id": name, "webhook-timestamp": str(now), "webhook-signature": signature}


def refuses(verify: Verify, body: bytes, headers: Mapping[str, str], secret: str) -> None:
    with pytest.raises(REFUSED):
        verify(body, headers, secret)


@pytest.fixture
def endpoint(web: WebClient) -> dict[str, Any]:
    return make(web)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_event_verifies_with_every_library_and_no_other_body_does(
    web: WebClient, database: psycopg.Connection, endpoint: dict[str, Any], event_type: str
) -> None:
    delivery = act(web, endpoint["id"], "test", 202, event_type=event_type)
    body, headers = sent(database, delivery["id"])
    event = by_standardwebhooks(body, headers, endpoint["signing_secret"])
    assert event == {"object": "event"} | delivery["event"]
    by_svix(body, headers, endpoint["signing_secret"])
    unwrapped: Any = by_openai(body, headers, endpoint["signing_secret"])
    assert (unwrapped.id, unwrapped.type, unwrapped.data.id) == (headers["webhook-id"], event_type, event["data"]["id"])
    for verify in LIBRARIES:
        refuses(verify, body + b" ", headers, endpoint["signing_secret"])
        refuses(verify, body, headers | {"webhook-id": "evt_" + "0" * 32}, endpoint["signing_secret"])
        later = {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}
        refuses(verify, body, headers | later, endpoint["signing_secret"])
        refuses(verify, body, headers, webhook_secrets.new())


@pytest.mark.parametrize("verify", LIBRARIES)
def test_both_secrets_verify_during_the_overlap_and_the_new_one_alone_after_it(
    web: WebClient, database: psycopg.Connection, endpoint: dict[str, Any], verify: Verify
) -> None:
    delivery = act(web, endpoint["id"], "test", 202)
    old = endpoint["signing_secret"]
    new = act(web, endpoint["id"], "rotate_secret", overlap_seconds=60)["signing_secret"]
    for secret in (old, new):
        verify(*sent(database, delivery["id"]), secret)
    database.execute("UPDATE webhook_endpoints SET previous_secret_until = now()")
    verify(*sent(database, delivery["id"]), new)
    refuses(verify, *sent(database, delivery["id"]), old)


@pytest.mark.parametrize("verify", LIBRARIES)
def test_without_an_overlap_the_old_secret_verifies_nothing_more(
    web: WebClient, database: psycopg.Connection, endpoint: dict[str, Any], verify: Verify
) -> None:
    delivery = act(web, endpoint["id"], "test", 202)
    new = act(web, endpoint["id"], "rotate_secret", overlap_seconds=0)["signing_secret"]
    verify(*sent(database, delivery["id"]), new)
    refuses(verify, *sent(database, delivery["id"]), endpoint["signing_secret"])
