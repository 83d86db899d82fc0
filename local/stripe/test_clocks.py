"""/v1/test_helpers/test_clocks: a time of their own for the customers that were made with one.

Advancing is done when its answer comes, so that the answer says `ready` where Stripe's says `advancing`.
"""

from local.stripe import cycles, events, lists
from local.stripe.call import Call
from local.stripe.clocks import LATEST
from local.stripe.errors import invalid
from local.stripe.ids import new_id
from local.stripe.periods import DAY_SECONDS
from local.stripe.store import Object

KIND = "test_helpers.test_clock"
URL = "/v1/test_helpers/test_clocks"
KEPT_SECONDS = 30 * DAY_SECONDS


def create(call: Call) -> Object:
    clock: Object = {
        "id": new_id("clock"),
        "object": KIND,
        "created": call.now,
        "deletes_after": call.now + KEPT_SECONDS,
        "frozen_time": call.params.need_integer("frozen_time", 0, LATEST),
        "livemode": False,
        "name": call.params.text("name", 300),
        "status": "ready",
        "status_details": {},
    }
    events.tell(call, "test_helpers.test_clock.created", call.store.put(clock))
    return clock


def retrieve(call: Call) -> Object:
    return call.living(KIND, call.id)


def advance(call: Call) -> Object:
    clock = call.living(KIND, call.id)
    until = call.params.need_integer("frozen_time", 0, LATEST)
    if until <= clock["frozen_time"]:
        raise invalid("The frozen_time must be after the test clock's current frozen_time.", "frozen_time")
    cycles.run(call.store, clock["id"], until)
    clock["frozen_time"] = until
    events.tell(call, "test_helpers.test_clock.ready", call.store.put(clock))
    return clock


def delete(call: Call) -> Object:
    """Its customers go with it, without a word, as at Stripe."""
    clock = call.living(KIND, call.id)
    call.store.put({**clock, "deleted": True})
    for customer in call.store.all("customer"):
        if customer["test_clock"] == clock["id"]:
            call.store.put({**customer, "deleted": True})
            for subscription in call.store.all("subscription", customer["id"]):
                call.store.put({**subscription, "status": "canceled"})
    return {"id": clock["id"], "object": KIND, "deleted": True}


def list_(call: Call) -> Object:
    return lists.page(call, URL, call.store.all(KIND))
