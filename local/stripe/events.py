"""Snapshot events: an object as it was when something happened to it, kept, and on its way to every endpoint that
wants its type. Written in the transaction of what they tell of."""

import random
import time
from typing import Any

from local.stripe import clocks, faults, lists
from local.stripe.call import Call
from local.stripe.ids import new_id
from local.stripe.store import OURS, Object, Store

# That of the installed stripe package, whose shapes the objects have; a test holds them together.
API_VERSION = "2026-10-28.endive"
URL = "/v1/events"


def tell(call: Call, type: str, object: Object, previous: dict[str, Any] | None = None) -> Object:
    """`previous` holds what the changed fields were, in events of changes."""
    store = call.store
    wanting = [endpoint["id"] for endpoint in store.all("webhook_endpoint") if _wants(endpoint, type)]
    data = {"object": lists.shown(store, object, [])}
    if previous is not None:
        data["previous_attributes"] = lists.shown(store, previous, [])
    event: Object = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": _moment(store, object),
        "data": data,
        "livemode": False,
        "pending_webhooks": len(wanting),
        "request": {"id": call.request_id or None, "idempotency_key": call.idempotency_key},
        "type": type,
    }
    store.put(event)
    told = faults.behaviour(store)
    for endpoint in wanting * told.tell_times:
        store.run(DELIVER, event["id"], endpoint, time.time() + random.random() * told.tell_within_seconds)
    return event


def tell_of_change(call: Call, type: str, object: Object, before: Object) -> None:
    """Nothing is told where nothing changed."""
    previous = {
        name: before.get(name)
        for name in object
        if not name.startswith(OURS) and name != "updated" and before.get(name) != object[name]
    }
    if previous:
        tell(call, type, object, previous)


def retrieve(call: Call) -> Object:
    return call.named("event")


def list_(call: Call) -> Object:
    one, several = call.params.text("type"), call.params.texts("types")
    call.params.pass_over("delivery_success")
    wanted = [one] if one else several
    found = [
        event
        for event in lists.created_as_asked(call.params, call.store.all("event"))
        if not wanted or event["type"] in wanted
    ]
    return lists.page(call, URL, found)


def _wants(endpoint: Object, type: str) -> bool:
    enabled = endpoint["enabled_events"]
    return not endpoint.get("deleted") and endpoint["status"] == "enabled" and ("*" in enabled or type in enabled)


def _moment(store: Store, object: Object) -> int:
    if object.get("test_clock") is None and isinstance(object.get("customer"), str):
        return clocks.now_of(store, store.find("customer", object["customer"]) or {})
    return clocks.now_of(store, object)


DELIVER = "INSERT INTO deliveries (event, endpoint, state, due) VALUES (?, ?, 'waiting', ?)"
