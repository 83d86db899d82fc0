"""What an account pays for: its checkout, its changes of plan, its customer's portal at Stripe, and how it stands.

No transaction is open while Stripe is asked. What is made there is made under an idempotency key that counts what the
account has had made: whoever dies or races before the answer is kept makes the same thing again, and no second one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection

from common import (
    audit,
    billed_accounts,
    billed_plans,
    checkouts,
    links,
    plans,
    stripe_api,
    stripe_objects,
    stripe_portal,
    stripe_prices,
)
from common import stripe_registers as registers
from common.audit import Actor
from common.database import as_account, as_owner
from common.entitlement import NOT_BEGUN, WAITED_FOR, Standing, Subscription
from common.errors import Conflict, InvalidRequest
from common.plans import Plan
from common.stripe_prices import Prices

if TYPE_CHECKING:
    from common.stripe_api import Price, SubscriptionUpdateParamsItem
    from common.stripe_api import Subscription as StripeSubscription


@dataclass(frozen=True, slots=True)
class Status:
    """How an account stands. `plan` is the one that it has, which an operator may have given it; `standing` what its
    subscriptions give. Nothing is sold where billing is not `enabled`."""

    enabled: bool
    plan: str
    standing: Standing


def status(account_id: UUID) -> Status:
    """Raises NotFound."""
    with as_account(account_id) as connection:
        account = billed_accounts.get(connection, account_id)
        return Status(stripe_api.is_on(), account.plan, billed_plans.stand(connection, account_id, account.now))


def checkout(actor: Actor, account_id: UUID, plan: str) -> str:
    """Where the plan is paid for: a page of Stripe's, whose events then give it to the account. A page that was opened
    before and not used is the same one, or is closed, so that nobody pays twice. Raises InvalidRequest for a plan that
    is not sold, Conflict for an account that has a subscription, and what stripe_api raises."""
    wanted = _sold(plan)
    with actor.transaction() as connection:
        account = billed_accounts.get(connection, account_id)
        if _live(connection, account_id) is not None:
            raise Conflict(
                "This account has a subscription: change the plan of that.", param="plan", code="already_subscribed"
            )
    if account.checkout_session is not None:
        url = checkouts.still_open(account.checkout_session, account.stripe_customer_id, plan)
        if url is not None:
            return url
    customer = billed_accounts.customer(actor, account)
    session, url = checkouts.open_one(actor, account, customer, wanted)
    checkouts.keep(actor, account, session, plan)
    return url


def _sold(plan: str) -> Plan:
    found = plans.get(plan)
    if not found.is_sold:
        names = ", ".join(plans.sold()) or "none"
        raise InvalidRequest(f"The plan {plan!r} is not sold; these are: {names}.", param="plan")
    return found


def _live(connection: Connection, account_id: UUID) -> Subscription | None:
    """The subscription to a plan that Stripe goes on with, or waits to be paid for."""
    of_account = registers.subscriptions(connection, account_id)
    live = [one for one in of_account if one.ours and not one.ended and one.status not in NOT_BEGUN]
    return max(live, key=lambda one: (one.started_at, one.id), default=None)


def change_plan(actor: Actor, account_id: UUID, plan: str) -> None:
    """Gives the account's subscription the prices of another plan, and bills or credits the difference now. The account
    has the plan as soon as Stripe's event tells of it. Raises as checkout does, and Conflict for an account without a
    subscription, or while a payment of it is missing."""
    wanted = _sold(plan)
    with actor.transaction() as connection:
        live = _live(connection, account_id)
        if live is None:
            raise Conflict("This account has no subscription yet: begin one.", param="plan", code="not_subscribed")
    prices = stripe_prices.find(wanted)
    with stripe_api.calling() as stripe:
        found = stripe.v1.subscriptions.retrieve(live.id)
        items = _changed_items(found, plan, prices)
        if not items:
            return
        if found.status in WAITED_FOR:
            # A smaller plan would credit what was never paid, and Stripe takes that for the payment.
            raise Conflict(
                "A payment of this subscription is missing: pay it in the portal, and then change the plan.",
                param="plan",
                code="payment_missing",
            )
        # Where the card does not pay the difference, nothing changes.
        stripe.v1.subscriptions.update(
            live.id,
            {"items": items, "proration_behavior": "always_invoice", "payment_behavior": "error_if_incomplete"},
        )
    with actor.transaction() as connection:
        audit.record(connection, actor, "billing.plan", account_id, plan=plan)


def _changed_items(found: "StripeSubscription", plan: str, prices: Prices) -> "list[SubscriptionUpdateParamsItem]":
    """What is to be otherwise with the subscription's items; nothing where they are of this plan already. The portal
    cannot do this: it only changes subscriptions of one item."""
    named = {item.id: stripe_api.metadatum(item.price.metadata, stripe_objects.PLAN) for item in found.items.data}
    ours = [item for item in found.items.data if named[item.id] is not None]
    if all(named[item.id] == plan for item in ours):
        # Also at a price of former times, which stays.
        return []
    changed: list[SubscriptionUpdateParamsItem] = []
    for metered, price in ((False, prices.monthly), (True, prices.metered)):
        before = next((item for item in ours if _is_metered(item.price) == metered), None)
        if before is not None and price is not None:
            changed.append({"id": before.id, "price": price})
        elif before is not None:
            changed.append({"id": before.id, "deleted": True})
        elif price is not None:
            changed.append({"price": price})
    return changed


def _is_metered(price: "Price") -> bool:
    return price.recurring is not None and price.recurring.usage_type == "metered"


def portal(actor: Actor, account_id: UUID) -> str:
    """Where the customer sees invoices, changes the card, and ends the subscription or takes that back: a page of
    Stripe's. Raises as checkout does."""
    with actor.transaction() as connection:
        account = billed_accounts.get(connection, account_id)
    customer = billed_accounts.customer(actor, account)
    with stripe_api.calling() as stripe:
        opened = stripe.v1.billing_portal.sessions.create(
            {
                "customer": customer,
                "configuration": stripe_portal.find(stripe),
                "return_url": links.to(links.BILLING),
            }
        )
    return opened.url


def forget_customer(actor: Actor, account_id: UUID) -> str:
    """For operators, where the account's customer is no more at Stripe, or at another one: its subscriptions have
    ended, and another customer is made on need. Returns the plan that the account then has. Raises NotFound, and
    Conflict for an account without a customer."""
    with as_owner() as connection:
        customer = billed_accounts.get(connection, account_id).stripe_customer_id
        if customer is None:
            raise Conflict("This account has no customer at Stripe.", param="account_id")
        registers.delete_customer(connection, customer)
        audit.record(connection, actor, "billing.forget_customer", account_id, customer=customer)
        move = billed_plans.settle(connection, account_id)
    if move is not None:
        billed_plans.follow(move)
    return status(account_id).plan
