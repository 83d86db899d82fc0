"""What comes with time: periods end, drafts are finalized, payments are tried again, checkout sessions expire.

Each thing happens at the time at which it was due, in that order, however late it is done: a clock that jumps a year
leaves what a year would have left.
"""

import copy
from dataclasses import dataclass

from local.stripe import charges, checkout, clocks, invoices, payments, subscription_items, subscriptions
from local.stripe.call import Call
from local.stripe.forms import Params
from local.stripe.periods import next_boundary
from local.stripe.store import Object, Store

INCOMPLETE_SECONDS = 23 * 3_600


@dataclass(frozen=True, order=True)
class Due:
    moment: int
    id: str


def run(store: Store, test_clock: str | None, until: int) -> None:
    """Does all that is due by then for the customers of a test clock, or for those of none. Call in a transaction."""
    call = Call(store, Params({}), "", "", "", None)
    try:
        while (due := _first(store, test_clock)) is not None and due.moment <= until:
            store.frozen_at = due.moment
            _do(call, due)
    finally:
        store.frozen_at = None


def anything_due(store: Store) -> bool:
    """For the customers without a test clock."""
    due = _first(store, None)
    return due is not None and due.moment <= clocks.now(store)


def _first(store: Store, test_clock: str | None) -> Due | None:
    owned = [
        one
        for kind in ("subscription", "invoice", "checkout.session")
        for one in store.unfinished(kind)
        if one.get("test_clock", one.get(checkout.TEST_CLOCK)) == test_clock
    ]
    moments = ((_moment(one), one["id"]) for one in owned)
    return min((Due(moment, id) for moment, id in moments if moment is not None), default=None)


def _moment(one: Object) -> int | None:
    """When time next does something to it."""
    match one["object"], one["status"]:
        case "subscription", "active" | "past_due":
            _, end = subscriptions.period(one)
            return end if one["cancel_at"] is None else min(end, one["cancel_at"])
        case "subscription", "incomplete":
            return int(one["created"]) + INCOMPLETE_SECONDS
        case "invoice", "draft":
            return int(one["automatically_finalizes_at"])
        case "invoice", "open":
            attempt: int | None = one["next_payment_attempt"]
            return attempt
        case "checkout.session", "open":
            return int(one["expires_at"])
    return None


def _do(call: Call, due: Due) -> None:
    one = call.store.any(due.id)
    assert one is not None
    match one["object"], one["status"]:
        case "subscription", "incomplete":
            _expire(call, one)
        case "subscription", _ if one["cancel_at"] is not None and one["cancel_at"] <= due.moment:
            subscriptions.bill_usage(call, one, due.moment)
            subscriptions.end(call, one, "cancellation_requested")
        case "subscription", _:
            _renew(call, one, due.moment)
        case "invoice", "draft":
            invoices.finalize(call, one)
            payments.attempt(call, one)
        case "invoice", _:
            payments.attempt(call, one)
        case _:
            checkout.expire_session(call, one)


def _renew(call: Call, subscription: Object, now: int) -> None:
    """The next period, and a draft that bills it in advance and the last one's usage."""
    before = copy.deepcopy(subscription)
    start, _ = subscriptions.period(subscription)
    items = copy.deepcopy(subscription["items"]["data"])
    recurring = items[0]["price"]["recurring"]
    end = next_boundary(subscription["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], now)
    lines = subscription[subscriptions.PENDING]
    for item in items:
        item |= {"current_period_start": now, "current_period_end": end}
        if subscription_items.is_metered(item):
            lines = [*lines, charges.metered_line(call.store, item, subscription["customer"], start, now)]
        else:
            lines = [*lines, charges.licensed_line(call.store, item, now, end)]
    subscription["items"] = {**subscription["items"], "data": items}
    subscription[subscriptions.PENDING] = []
    invoices.draft(call, subscription, "subscription_cycle", lines, start, now)
    subscriptions.keep(call, subscription, before)


def _expire(call: Call, subscription: Object) -> None:
    """Nobody paid the first invoice."""
    invoice = call.existing("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        invoices.void(call, invoice)
    before = {**subscription}
    subscription |= {"status": "incomplete_expired", "ended_at": clocks.now_of(call.store, subscription)}
    subscriptions.keep(call, subscription, before)
