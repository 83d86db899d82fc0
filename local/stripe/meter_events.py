"""/v1/billing/meter_events: what was used, counted once for each identifier."""

import re

from local.stripe import clocks
from local.stripe.call import Call
from local.stripe.errors import invalid, missing, no_such, repeated_event
from local.stripe.ids import new_id
from local.stripe.store import Object, Store

LONGEST_IDENTIFIER = 100
# Stripe promises "at least 24 hours"; a sender that counts on more is found out here.
REMEMBERED_SECONDS = 24 * 3_600
OLDEST_SECONDS = 35 * 86_400
FUTURE_SECONDS = 5 * 60

# At most 15 digits, so that sums stay exact in the floats of the summaries.
_WHOLE = re.compile(r"-?[0-9]{1,15}")


def create(call: Call) -> Object:
    """Refused are an unknown meter or customer, a value that is no whole number, a time that is too far off, and an
    identifier of the last day."""
    params, store = call.params, call.store
    name = params.need("event_name", 100)
    identifier = params.text("identifier", LONGEST_IDENTIFIER) or new_id("mtrev")
    payload = params.group("payload").plain()
    meter = next(
        (one for one in store.all("billing.meter") if one["event_name"] == name and one["status"] == "active"), None
    )
    if meter is None:
        raise invalid(f"No active meter found for event name {name}.", "event_name")
    customer = _customer(store, payload, meter["customer_mapping"]["event_payload_key"])
    value = _value(payload, meter["value_settings"]["event_payload_key"])
    now = clocks.now_of(store, customer)
    timestamp = params.integer("timestamp", 0)
    timestamp = now if timestamp is None else timestamp
    if timestamp < now - OLDEST_SECONDS:
        raise invalid("The timestamp of a meter event must be within the past 35 calendar days.", "timestamp")
    if timestamp > now + FUTURE_SECONDS:
        raise invalid("The timestamp of a meter event must be at most 5 minutes in the future.", "timestamp")
    if store.run(LATELY_SEEN, identifier, now - REMEMBERED_SECONDS):
        raise repeated_event(identifier)
    store.run(COUNT, identifier, name, customer["id"], value, timestamp, now)
    return {
        "object": "billing.meter_event",
        "created": now,
        "event_name": name,
        "identifier": identifier,
        "livemode": False,
        "payload": payload,
        "timestamp": timestamp,
    }


def _customer(store: Store, payload: Object, key: str) -> Object:
    id = payload.get(key)
    if not isinstance(id, str) or not id:
        raise missing(f"payload[{key}]")
    customer = store.find("customer", id)
    if customer is None or customer.get("deleted"):
        raise no_such("customer", id, f"payload[{key}]")
    return customer


def _value(payload: Object, key: str) -> int:
    value = payload.get(key)
    if value is None:
        raise missing(f"payload[{key}]")
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise invalid(f"Invalid value: payload[{key}] must be a whole number of at most 15 digits.", f"payload[{key}]")
    return int(value)


def note_attempt(store: Store, parsed: Object, outcome: str) -> None:
    """Writes down what a call asked for, also one that was refused or lost, for /_standin/meter_events."""
    payload = parsed.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    told = [parsed.get("identifier"), payload.get("stripe_customer_id"), payload.get("value"), parsed.get("timestamp")]
    store.run(NOTE, *(one if isinstance(one, str) else "" for one in told), outcome)


def by_identifier(store: Store, customer: str | None) -> Object:
    """For each identifier: the values it was sent with, how often, how often counted, and what became of it."""
    found: Object = {}
    for row in store.run(SENT, customer):
        one = found.setdefault(row["identifier"], {"values": [], "attempts": 0, "counted": 0, "outcomes": {}})
        sent = {"customer": row["customer"], "value": row["value"], "timestamp": row["timestamp"]}
        if sent not in one["values"]:
            one["values"].append(sent)
        one["attempts"] += 1
        one["outcomes"][row["outcome"]] = one["outcomes"].get(row["outcome"], 0) + 1
    for row in store.run(COUNTED, customer):
        one = found.setdefault(row["identifier"], {"values": [], "attempts": 0, "counted": 0, "outcomes": {}})
        one["counted"] = row["times"]
    return found


def totals(store: Store) -> dict[str, int]:
    """The sum of each customer's values over all time."""
    return {row["customer"]: row["total"] for row in store.run(TOTALS)}


LATELY_SEEN = "SELECT 1 FROM meter_events WHERE identifier = ? AND received > ?"
COUNT = """
    INSERT INTO meter_events (identifier, event_name, customer, value, timestamp, received) VALUES (?, ?, ?, ?, ?, ?)
"""
NOTE = "INSERT INTO attempts (identifier, customer, value, timestamp, outcome) VALUES (?, ?, ?, ?, ?)"
SENT = "SELECT * FROM attempts WHERE ?1 IS NULL OR customer = ?1 ORDER BY seq"
COUNTED = """
    SELECT identifier, count(*) AS times FROM meter_events WHERE ?1 IS NULL OR customer = ?1 GROUP BY identifier
"""
TOTALS = "SELECT customer, sum(value) AS total FROM meter_events GROUP BY customer"
