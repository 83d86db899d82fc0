"""Invoices of subscriptions, /v1/invoices: drafted, finalized, paid or not."""

from local.stripe import charges, clocks, events, lists, payments
from local.stripe.call import Call
from local.stripe.errors import invalid
from local.stripe.ids import new_id
from local.stripe.store import Object

URL = "/v1/invoices"
# How long a renewal's invoice stays a draft, in which meter events of the period still come in.
DRAFT_SECONDS = 3_600


def draft(call: Call, subscription: Object, reason: str, lines: list[Object], start: int, end: int) -> Object:
    """Makes it, and makes it the subscription's latest, which the caller keeps."""
    customer = call.existing("customer", subscription["customer"])
    now = clocks.now_of(call.store, customer)
    id = new_id("in")
    invoice: Object = {
        "id": id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Batchyard",
        "account_tax_ids": None,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": now + DRAFT_SECONDS,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": {
            "object": "list",
            "data": [{**line, "invoice": id} for line in lines],
            "has_more": False,
            "total_count": len(lines),
            "url": f"{URL}/{id}/lines",
        },
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": now + DRAFT_SECONDS,
        "number": None,
        "on_behalf_of": None,
        "parent": {
            "quote_details": None,
            "subscription_details": {
                "metadata": subscription["metadata"],
                "subscription": subscription["id"],
            },
            "type": "subscription_details",
        },
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": end,
        "period_start": start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": customer["test_clock"],
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }
    _add_up(call, invoice)
    events.tell(call, "invoice.created", call.store.put(invoice))
    subscription["latest_invoice"] = id
    return invoice


def finalize(call: Call, invoice: Object) -> Object:
    """Counts what was used for the last time, and takes the customer's balance into account."""
    customer = call.existing("customer", invoice["customer"])
    now = clocks.now_of(call.store, customer)
    _add_up(call, invoice)
    left = invoice["total"] + customer["balance"]
    invoice |= {
        "amount_due": max(0, left),
        "amount_remaining": max(0, left),
        "automatically_finalizes_at": None,
        "effective_at": now,
        "ending_balance": min(0, left),
        "next_payment_attempt": None,
        "number": f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}",
        "starting_balance": customer["balance"],
        "status": "open",
    }
    invoice["status_transitions"]["finalized_at"] = now
    customer["next_invoice_sequence"] += 1
    before = {**customer}
    customer["balance"] = min(0, left)
    call.store.put(customer)
    events.tell_of_change(call, "customer.updated", customer, before)
    events.tell(call, "invoice.finalized", call.store.put(invoice))
    return invoice


def retrieve(call: Call) -> Object:
    return call.named("invoice")


def lines(call: Call) -> Object:
    invoice = call.named("invoice")
    return lists.page(call, invoice["lines"]["url"], invoice["lines"]["data"])


def list_(call: Call) -> Object:
    params = call.params
    customer, subscription, status = params.text("customer"), params.text("subscription"), params.text("status")
    params.pass_over("collection_method")
    found = [
        invoice
        for invoice in lists.created_as_asked(params, call.store.all("invoice", customer))
        if status in (None, invoice["status"]) and subscription in (None, subscription_of(invoice))
    ]
    return lists.page(call, URL, found)


def finalize_now(call: Call) -> Object:
    invoice = call.named("invoice")
    call.params.pass_over("auto_advance")
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    return finalize(call, invoice)


def pay(call: Call) -> Object:
    """Tries the customer's card once; declined is an error, and the attempt counts all the same."""
    invoice = call.named("invoice")
    call.params.pass_over("forgive", "off_session", "payment_method", "source", "mandate")
    elsewhere = call.params.boolean("paid_out_of_band") or False
    if invoice["status"] == "draft":
        finalize(call, invoice)
    if invoice["status"] != "open":
        raise invalid(f"Invoice is already {invoice['status']}", code="invoice_not_open")
    payments.attempt(call, invoice, asked=True, elsewhere=elsewhere)
    return invoice


def void(call: Call, invoice: Object) -> None:
    invoice |= {"status": "void", "next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"]["voided_at"] = clocks.now_of(call.store, invoice)
    events.tell(call, "invoice.voided", call.store.put(invoice))


def subscription_of(invoice: Object) -> str:
    return str(invoice["parent"]["subscription_details"]["subscription"])


def _add_up(call: Call, invoice: Object) -> None:
    for line in invoice["lines"]["data"]:
        charges.count_again(call.store, line)
    total = sum(line["amount"] for line in invoice["lines"]["data"])
    invoice |= {"subtotal": total, "subtotal_excluding_tax": total, "total": total, "total_excluding_tax": total}
    invoice |= {"amount_due": max(0, total), "amount_remaining": max(0, total)}
