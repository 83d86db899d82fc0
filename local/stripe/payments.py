"""An attempt to pay an invoice by the customer's card, and what its end means for the subscription."""

from local.stripe import clocks, customers, events, invoices, subscriptions
from local.stripe.call import Call
from local.stripe.errors import declined
from local.stripe.periods import DAY_SECONDS
from local.stripe.store import Object

# A card that was declined is tried again after so many days, and after the last the subscription ends.
RETRY_DAYS = (3, 5, 7)


def attempt(call: Call, invoice: Object, *, asked: bool = False, elsewhere: bool = False) -> bool:
    """Whether it is paid. `asked` is by a call or a page, which is told by RefusedError when it is not; `elsewhere`
    needs no card."""
    customer = call.existing("customer", invoice["customer"])
    nothing_due = invoice["amount_due"] == 0
    if nothing_due or elsewhere or not customer[customers.CARD_FAILS]:
        _paid(call, invoice, attempted=not nothing_due)
        return True
    _failed(call, invoice, asked)
    if asked:
        raise declined()
    return False


def _paid(call: Call, invoice: Object, attempted: bool) -> None:
    invoice |= {
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "attempt_count": invoice["attempt_count"] + attempted,
        "attempted": True,
        "next_payment_attempt": None,
        "status": "paid",
    }
    invoice["status_transitions"]["paid_at"] = clocks.now_of(call.store, invoice)
    call.store.put(invoice)
    events.tell(call, "invoice.paid", invoice)
    events.tell(call, "invoice.payment_succeeded", invoice)
    subscription = call.existing("subscription", invoices.subscription_of(invoice))
    if _is_latest(subscription, invoice) and subscription["status"] in ("incomplete", "past_due"):
        subscriptions.become(call, subscription, "active")


def _failed(call: Call, invoice: Object, asked: bool) -> None:
    """Attempts that were asked for move no automatic one."""
    now = clocks.now_of(call.store, invoice)
    first = invoice["billing_reason"] == "subscription_create"
    retries = invoice.get("_retries", 0)
    if not asked:
        due = None if first or retries >= len(RETRY_DAYS) else now + RETRY_DAYS[retries] * DAY_SECONDS
        invoice |= {"next_payment_attempt": due, "_retries": retries + 1}
    invoice |= {"attempt_count": invoice["attempt_count"] + 1, "attempted": True}
    events.tell(call, "invoice.payment_failed", call.store.put(invoice))
    subscription = call.existing("subscription", invoices.subscription_of(invoice))
    if _is_latest(subscription, invoice) and subscription["status"] == "active":
        subscriptions.become(call, subscription, "past_due")
    if subscription["status"] == "past_due" and not asked and invoice["next_payment_attempt"] is None:
        subscriptions.end(call, subscription, "payment_failed")


def _is_latest(subscription: Object, invoice: Object) -> bool:
    """Of an older one, neither end moves the subscription: it could not be moved back."""
    return bool(subscription["latest_invoice"] == invoice["id"])
