"""/v1/billing/meters and the summaries of what they counted."""

from collections import defaultdict

from local.stripe import clocks, events, faults, lists
from local.stripe.call import Call
from local.stripe.errors import invalid
from local.stripe.ids import new_id
from local.stripe.store import Object, Store

URL = "/v1/billing/meters"
WINDOWS = {"hour": 3_600, "day": 86_400}
MINUTE_SECONDS = 60


def create(call: Call) -> Object:
    params = call.params
    name = params.need("event_name", 100)
    if any(meter["event_name"] == name and meter["status"] == "active" for meter in call.store.all("billing.meter")):
        raise invalid(f"An active meter already exists with event_name {name}.", "event_name")
    mapping, values = params.group("customer_mapping"), params.group("value_settings")
    formula = params.group("default_aggregation").need("formula")
    if formula != "sum":
        raise invalid("The stand-in's meters only know the formula `sum`.", "default_aggregation[formula]")
    mapping.pass_over("type")
    meter: Object = {
        "id": new_id("mtr_test"),
        "object": "billing.meter",
        "created": call.now,
        "customer_mapping": {
            "event_payload_key": mapping.text("event_payload_key") or "stripe_customer_id",
            "type": "by_id",
        },
        "default_aggregation": {"formula": formula},
        "display_name": params.need("display_name"),
        "event_name": name,
        "event_time_window": params.text("event_time_window"),
        "livemode": False,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": call.now,
        "value_settings": {"event_payload_key": values.text("event_payload_key") or "value"},
    }
    events.tell(call, "billing.meter.created", call.store.put(meter))
    return meter


def retrieve(call: Call) -> Object:
    return call.named("billing.meter")


def update(call: Call) -> Object:
    meter = call.named("billing.meter")
    if call.params.has("display_name"):
        meter["display_name"] = call.params.need("display_name")
    meter["updated"] = call.now
    events.tell(call, "billing.meter.updated", call.store.put(meter))
    return meter


def deactivate(call: Call) -> Object:
    meter = call.named("billing.meter")
    meter |= {"status": "inactive", "status_transitions": {"deactivated_at": call.now}, "updated": call.now}
    events.tell(call, "billing.meter.deactivated", call.store.put(meter))
    return meter


def reactivate(call: Call) -> Object:
    meter = call.named("billing.meter")
    meter |= {"status": "active", "status_transitions": {"deactivated_at": None}, "updated": call.now}
    events.tell(call, "billing.meter.reactivated", call.store.put(meter))
    return meter


def list_(call: Call) -> Object:
    status = call.params.text("status")
    found = [meter for meter in call.store.all("billing.meter") if status in (None, meter["status"])]
    return lists.page(call, URL, found)


def event_summaries(call: Call) -> Object:
    """One summary of the whole time, or one of each hour or day in which something was counted, the newest first."""
    meter = call.named("billing.meter")
    params = call.params
    customer = call.living("customer", params.need("customer"), "customer")
    start, end = params.need_integer("start_time", 0), params.need_integer("end_time", 0)
    window = params.text("value_grouping_window")
    if window is not None and window not in WINDOWS:
        raise invalid("Invalid value_grouping_window: must be one of day, hour", "value_grouping_window")
    unit = WINDOWS[window] if window else MINUTE_SECONDS
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment % unit:
            raise invalid(f"{name} must be aligned with {window or 'minute'} boundaries.", name)
    if start >= end:
        raise invalid("start_time must be before end_time.", "start_time")
    received_by = clocks.now_of(call.store, customer) - faults.behaviour(call.store).summary_delay_seconds
    counted: dict[int, int] = defaultdict(int)
    for event in call.store.run(COUNTED, customer["id"], meter["event_name"], start, end, received_by):
        counted[event["timestamp"] // unit * unit if window else start] += event["value"]
    if not window:
        counted[start] += 0
    length = unit if window else end - start
    found = [
        {
            "id": f"mtrusg_test_{meter['id'].removeprefix('mtr_test_')}_{customer['id']}_{length}_{beginning}",
            "object": "billing.meter_event_summary",
            "aggregated_value": float(counted[beginning]),
            "end_time": beginning + length,
            "livemode": False,
            "meter": meter["id"],
            "start_time": beginning,
        }
        for beginning in sorted(counted, reverse=True)
    ]
    return lists.page(call, f"{URL}/{meter['id']}/event_summaries", found)


def usage(store: Store, meter_id: str, customer: str, start: int, end: int) -> int:
    """What a meter counted for a customer from `start` until before `end`; never below nothing."""
    meter = store.find("billing.meter", meter_id)
    assert meter is not None, "a price names a meter that exists, and meters are never deleted"
    found = store.run(COUNTED, customer, meter["event_name"], start, end, 2**62)
    return max(0, sum(int(event["value"]) for event in found))


COUNTED = """
    SELECT value, timestamp FROM meter_events
    WHERE customer = ? AND event_name = ? AND timestamp >= ? AND timestamp < ? AND received <= ?
"""
