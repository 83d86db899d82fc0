"""What Stripe told of each of its objects, kept so that neither the order nor the number of times matters."""

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import entitlement, stripe_objects
from common.stripe_objects import Event, Version, moment


def note(connection: Connection, told: Event) -> UUID | None:
    """Takes in what an event tells; returns the account that it is about, where that is known. Other events than those
    of TYPES tell nothing that is kept. Raises InvalidRequest."""
    if told.type in stripe_objects.SUBSCRIPTION_TYPES:
        return _note_subscription(connection, told)
    if told.type in stripe_objects.INVOICE_TYPES:
        return _note_invoice(connection, told)
    if told.type == stripe_objects.CHECKOUT_COMPLETED:
        opened = stripe_objects.checkout(told)
        # The subscription has events of its own: this one says whose the customer is.
        return _customer(connection, opened.customer, opened.metadata) if opened.customer is not None else None
    if told.type == stripe_objects.CUSTOMER_DELETED:
        customer = stripe_objects.customer(told)
        account_id = _customer(connection, customer.id, customer.metadata)
        delete_customer(connection, customer.id)
        return account_id
    return None


def _note_subscription(connection: Connection, told: Event) -> UUID | None:
    found = stripe_objects.subscription(told)
    if found.customer is None:
        return None
    account_id = _customer(connection, found.customer, found.metadata)
    items = found.items.data
    ours = [item.price for item in items if item.price.plan is not None]
    # What is metered has tiers and no amount of its own.
    monthly = next((price for price in ours if price.unit_amount is not None), None)
    of_plan = monthly if monthly is not None else next(iter(ours), None)
    start = max((item.current_period_start for item in items if item.current_period_start is not None), default=None)
    end = max((item.current_period_end for item in items if item.current_period_end is not None), default=None)
    cancel_at = found.cancel_at if found.cancel_at is not None else end if found.cancel_at_period_end else None
    values = {
        "id": found.id,
        "status": found.status,
        "plan": of_plan.plan if of_plan is not None else None,
        "amount": monthly.unit_amount if monthly is not None else None,
        "currency": monthly.currency if monthly is not None else None,
        "period_start": _moment(start),
        "period_end": _moment(end),
        "started_at": moment(found.start_date),
        "cancel_at": _moment(cancel_at),
    }
    of_customer = {"customer": found.customer, "account_id": account_id}
    connection.execute(
        _NOTE_SUBSCRIPTION, values | of_customer | _columns(stripe_objects.version_of_subscription(told, found))
    )
    if ours:
        connection.execute(_NOTE_OURS, {"id": found.id})
    # All that was ever told stays: a period that is over was one.
    moments = [moment(seconds) for seconds in {found.start_date, start, end, found.ended_at} if seconds is not None]
    connection.execute(_NOTE_BOUNDARIES, of_customer | {"moments": moments})
    return account_id


def _note_invoice(connection: Connection, told: Event) -> UUID | None:
    found = stripe_objects.invoice(told)
    if found.customer is None:
        # Nobody's, and so no account's.
        return None
    details = found.parent.subscription_details if found.parent is not None else None
    account_id = _customer(connection, found.customer, details.metadata if details is not None else None)
    values = {
        "id": found.id,
        "customer": found.customer,
        "account_id": account_id,
        "subscription": details.subscription if details is not None else None,
        "status": found.status,
        "amount_due": found.amount_due,
        "created_at": moment(found.created),
    }
    connection.execute(_NOTE_INVOICE, values | _columns(stripe_objects.version_of_invoice(told, found)))
    if told.type == "invoice.payment_failed":
        connection.execute(_NOTE_FAILURE, {"id": found.id, "failed_at": moment(told.created)})
    return account_id


def _customer(connection: Connection, customer: str, metadata: dict[str, Any] | None) -> UUID | None:
    """Locks the customer, so that what is told of it is taken in one by one. Returns its account, if known."""
    connection.execute(_MAKE_CUSTOMER, {"customer": customer})
    account_id: UUID | None = connection.execute(_LOCK_CUSTOMER, {"customer": customer}).scalar_one()
    if account_id is not None:
        return account_id
    named = {"customer": customer, "named": stripe_objects.account_in(metadata)}
    account_id = connection.execute(_LINK_CUSTOMER, named).scalar_one_or_none()
    if account_id is not None:
        for statement in _LINK_OBJECTS:
            connection.execute(statement, {"customer": customer, "account_id": account_id})
    return account_id


def _moment(seconds: int | None) -> datetime | None:
    return moment(seconds) if seconds is not None else None


def _columns(version: Version) -> dict[str, object]:
    return asdict(version)


def add_customer(connection: Connection, account_id: UUID, customer: str) -> None:
    """A customer that was made for the account. An event may have told of it before."""
    connection.execute(_ADD_CUSTOMER, {"customer": customer, "account_id": account_id})


def delete_customer(connection: Connection, customer: str) -> None:
    """A customer that is no more, for ever."""
    connection.execute(_DELETE_CUSTOMER, {"customer": customer})


def subscriptions(connection: Connection, account_id: UUID) -> list[entitlement.Subscription]:
    """Of an account; those of a deleted customer have ended."""
    rows = connection.execute(_SUBSCRIPTIONS, {"account_id": account_id})
    return [entitlement.Subscription(**row._mapping) for row in rows]


def invoices(connection: Connection, account_id: UUID) -> list[entitlement.Invoice]:
    """Of an account."""
    rows = connection.execute(_INVOICES, {"account_id": account_id})
    return [entitlement.Invoice(**row._mapping) for row in rows]


_MAKE_CUSTOMER = text("INSERT INTO stripe_customers (id) VALUES (:customer) ON CONFLICT (id) DO NOTHING")
_LOCK_CUSTOMER = text("SELECT account_id FROM stripe_customers WHERE id = :customer FOR UPDATE")
_LINK_CUSTOMER = text("""
    UPDATE stripe_customers c SET account_id = a.id FROM accounts a
    WHERE c.id = :customer AND (a.stripe_customer_id = :customer OR a.id = :named) RETURNING a.id
""")
_LINK_OBJECTS = [
    text(f"UPDATE {table} SET account_id = :account_id WHERE customer = :customer")
    for table in ("stripe_subscriptions", "stripe_invoices", "stripe_boundaries")
]
_DELETE_CUSTOMER = text("UPDATE stripe_customers SET deleted = true WHERE id = :customer")
_ADD_CUSTOMER = text("""
    INSERT INTO stripe_customers (id, account_id) VALUES (:customer, :account_id) ON CONFLICT (id) DO NOTHING
""")

_IS_GREATER = """
    (excluded.ended, excluded.told_at, excluded.rank, excluded.told_by)
        > (known.ended, known.told_at, known.rank, known.told_by)
"""
_NOTE_SUBSCRIPTION = text(f"""
    INSERT INTO stripe_subscriptions AS known (id, customer, account_id, status, plan, amount, currency, period_start,
        period_end, started_at, cancel_at, ended, told_at, rank, told_by)
    VALUES (:id, :customer, :account_id, :status, :plan, :amount, :currency, :period_start,
        :period_end, :started_at, :cancel_at, :ended, :told_at, :rank, :told_by)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, plan = excluded.plan, amount = excluded.amount,
        currency = excluded.currency, period_start = excluded.period_start, period_end = excluded.period_end,
        started_at = excluded.started_at, cancel_at = excluded.cancel_at, ended = excluded.ended,
        told_at = excluded.told_at, rank = excluded.rank, told_by = excluded.told_by
    WHERE {_IS_GREATER}
""")
_NOTE_OURS = text("UPDATE stripe_subscriptions SET ours = true WHERE id = :id AND NOT ours")
_NOTE_INVOICE = text(f"""
    INSERT INTO stripe_invoices AS known (id, customer, account_id, subscription, status, amount_due, created_at,
        ended, told_at, rank, told_by)
    VALUES (:id, :customer, :account_id, :subscription, :status, :amount_due, :created_at,
        :ended, :told_at, :rank, :told_by)
    ON CONFLICT (id) DO UPDATE SET subscription = excluded.subscription, status = excluded.status,
        amount_due = excluded.amount_due, created_at = excluded.created_at, ended = excluded.ended,
        told_at = excluded.told_at, rank = excluded.rank, told_by = excluded.told_by
    WHERE {_IS_GREATER}
""")
# A test clock of Stripe's may be ahead of ours: what fails tomorrow has failed by now.
_NOTE_FAILURE = text("""
    UPDATE stripe_invoices SET failed_at = least(failed_at, CAST(:failed_at AS timestamptz), now()) WHERE id = :id
""")
_NOTE_BOUNDARIES = text("""
    INSERT INTO stripe_boundaries (customer, at, account_id)
    SELECT :customer, at, CAST(:account_id AS uuid) FROM unnest(CAST(:moments AS timestamptz[])) AS m (at)
    ON CONFLICT (customer, at) DO NOTHING
""")

_SUBSCRIPTIONS = text("""
    SELECT s.id, s.ours, s.plan, s.status, s.ended OR c.deleted AS ended, s.started_at, s.period_start, s.period_end,
        s.cancel_at, s.amount, s.currency
    FROM stripe_subscriptions s JOIN stripe_customers c ON c.id = s.customer WHERE s.account_id = :account_id
""")
_INVOICES = text("""
    SELECT id, subscription, ended, created_at, failed_at FROM stripe_invoices
    WHERE account_id = :account_id AND subscription IS NOT NULL
""")
