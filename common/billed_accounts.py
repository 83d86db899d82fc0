"""Accounts as Stripe knows them: each has a customer there, made on first need."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids, stripe_api, stripe_objects
from common import stripe_registers as registers
from common.audit import Actor
from common.errors import NotFound
from common.stripe_api import StripeFailed

if TYPE_CHECKING:
    from common.stripe_api import StripeClient


@dataclass(frozen=True, slots=True)
class BilledAccount:
    """What billing has to know of an account. `customers` counts those that it ever had, and `checkouts` those that it
    had, with what Stripe failed at; `now` is the moment at which this was read."""

    id: UUID
    name: str
    plan: str
    stripe_customer_id: str | None
    checkout_session: str | None
    checkouts: int
    customers: int
    now: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("acct_", self.id)


def get(connection: Connection, account_id: UUID) -> BilledAccount:
    """Raises NotFound."""
    row = connection.execute(_GET, {"account_id": account_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such account.", param="account_id")
    return BilledAccount(**row._mapping)


def customer(actor: Actor, account: BilledAccount) -> str:
    """The account's customer, with the name that the account has now. Raises what stripe_api raises."""
    with under_keys(actor, account) as stripe:
        found = account.stripe_customer_id
        if found is None:
            # Nothing in it may be otherwise when it is made again: under one key Stripe takes one request.
            found = stripe.v1.customers.create(
                {"metadata": stripe_objects.of_account(account.id)},
                {"idempotency_key": f"customer-{account.shown_id}-{account.customers}-{account.checkouts}"},
            ).id
        stripe.v1.customers.update(found, {"name": account.name})
    if account.stripe_customer_id is None:
        with actor.transaction() as connection:
            registers.add_customer(connection, account.id, found)
            connection.execute(_KEEP_CUSTOMER, {"account_id": account.id, "customer": found})
            # Another request may have had one made, under another key: what is metered is told of that.
            found = get(connection, account.id).stripe_customer_id or found
    return found


@contextmanager
def under_keys(actor: Actor, account: BilledAccount) -> Iterator["StripeClient"]:
    """Stripe, for what is made under keys that count the account's checkouts. Where it fails at that, the next request
    goes under other keys, or it would fail for a day: nobody was given what may have been made, so nobody pays it."""
    try:
        with stripe_api.calling() as stripe:
            yield stripe
    except StripeFailed:
        with actor.transaction() as connection:
            connection.execute(_OTHER_KEYS, {"account_id": account.id, "checkouts": account.checkouts})
        raise


_GET = text("""
    SELECT id, name, plan, stripe_customer_id, checkout_session, checkouts, clock_timestamp() AS now,
        (SELECT count(*) FROM stripe_customers c WHERE c.account_id = a.id) AS customers
    FROM accounts a WHERE id = :account_id
""")
_OTHER_KEYS = text("UPDATE accounts SET checkouts = checkouts + 1 WHERE id = :account_id AND checkouts = :checkouts")
_KEEP_CUSTOMER = text("""
    UPDATE accounts SET stripe_customer_id = :customer WHERE id = :account_id AND stripe_customer_id IS NULL
""")
