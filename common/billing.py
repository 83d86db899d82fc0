"""What an account pays for: its checkout, its changes of plan, its customer's portal at Stripe, and how it stands.

No transaction is open while Stripe is asked. What is made there is made under an idempotency key that counts what the
account has had made: whoever dies or races before the answer is kept makes the same thing again, and no second one.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from common import (
    audit,
    billed_plans,
    ids,
    json_text,
    links,
    plans,
    stripe_api,
    stripe_objects,
    stripe_portal,
    stripe_prices,
)
from common import stripe_registers as registers
from common.audit import Actor
from common.database import as_account
from common.entitlement import NOT_BEGUN, Standing, Subscription
from common.errors import Conflict, InvalidRequest, NotFound
from common.plans import Plan
from common.stripe_prices import Prices

if TYPE_CHECKING:
    from common.stripe_api import (
        Price,
        SessionCreateParams,
        SessionCreateParamsLineItem,
        StripeClient,
        SubscriptionUpdateParamsItem,
    )
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
        account = _account(connection, account_id)
        return Status(stripe_api.is_on(), account.plan, billed_plans.stand(connection, account_id, account.now))


def checkout(actor: Actor, account_id: UUID, plan: str) -> str:
    """Where the plan is paid for: a page of Stripe's, whose events then give it to the account. A page that was opened
    before and not used is the same one, or is closed, so that nobody pays twice. Raises InvalidRequest for a plan that
    is not sold, Conflict for an account that has a subscription, and what stripe_api raises."""
    wanted = _sold(plan)
    with actor.transaction() as connection:
        account = _account(connection, account_id)
        if _live(connection, account_id) is not None:
            raise Conflict(
                "This account has a subscription: change the plan of that.", param="plan", code="already_subscribed"
            )
    if account.checkout_session is not None and (url := _still_open(account.checkout_session, plan)) is not None:
        return url
    customer = _customer(actor, account)
    session, url = _open_checkout(account, customer, wanted)
    _keep_checkout(actor, account, session, plan)
    return url


def _sold(plan: str) -> Plan:
    found = plans.get(plan)
    if not found.is_sold:
        names = ", ".join(plans.sold()) or "none"
        raise InvalidRequest(f"The plan {plan!r} is not sold; these are: {names}.", param="plan")
    return found


def _account(connection: Connection, account_id: UUID) -> Row[Any]:
    row = connection.execute(_ACCOUNT, {"account_id": account_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such account.", param="account_id")
    return row


def _live(connection: Connection, account_id: UUID) -> Subscription | None:
    """The subscription to a plan that Stripe goes on with, or waits to be paid for."""
    of_account = registers.subscriptions(connection, account_id)
    live = [one for one in of_account if one.ours and not one.ended and one.status not in NOT_BEGUN]
    return max(live, key=lambda one: (one.started_at, one.id), default=None)


def _still_open(session: str, plan: str) -> str | None:
    """Where an earlier checkout can still be paid, if it is for this plan; one for another is closed. Raises Conflict
    for one that was paid, and whose subscription has not been told of yet."""
    with stripe_api.calling() as stripe:
        found = stripe.v1.checkout.sessions.retrieve(session)
        if found.status == "complete" and _is_running(stripe, found.subscription):
            raise Conflict("This account has just paid for a plan: it has it in a moment.", code="already_subscribed")
        if found.status != "open":
            return None
        if stripe_api.metadatum(found.metadata, stripe_objects.PLAN) == plan and found.url is not None:
            return found.url
        # Where it is paid at this moment, Stripe refuses, and so do we.
        stripe.v1.checkout.sessions.expire(session)
    return None


def _is_running(stripe: "StripeClient", subscription: object) -> bool:
    """Of a checkout long ago it may have ended since."""
    if not isinstance(subscription, str):
        return False
    return stripe.v1.subscriptions.retrieve(subscription).status not in stripe_objects.ENDED_SUBSCRIPTION


def _customer(actor: Actor, account: Row[Any]) -> str:
    """The account's customer at Stripe, made on first need; with the name that the account has now."""
    known: str | None = account.stripe_customer_id
    with stripe_api.calling() as stripe:
        if known is not None:
            stripe.v1.customers.update(known, {"name": account.name})
            return known
        # Nothing in it may be otherwise when it is made again: under one key Stripe takes one request.
        made = stripe.v1.customers.create(
            {"metadata": stripe_objects.of_account(account.id)},
            {"idempotency_key": f"customer-{ids.show('acct_', account.id)}-{account.customers}"},
        )
        stripe.v1.customers.update(made.id, {"name": account.name})
    with actor.transaction() as connection:
        registers.add_customer(connection, account.id, made.id)
        connection.execute(_KEEP_CUSTOMER, {"account_id": account.id, "customer": made.id})
    return made.id


def _open_checkout(account: Row[Any], customer: str, plan: Plan) -> tuple[str, str]:
    """The id and the address of a new one."""
    prices = stripe_prices.find(plan)
    of_account = stripe_objects.of_account(account.id)
    items: list[SessionCreateParamsLineItem] = [{"price": prices.monthly, "quantity": 1}]
    # What is metered has no quantity.
    items += [{"price": prices.metered}] if prices.metered is not None else []
    params: SessionCreateParams = {
        "mode": "subscription",
        "customer": customer,
        "client_reference_id": of_account[stripe_objects.ACCOUNT],
        "line_items": items,
        "success_url": links.to(links.BILLING),
        "cancel_url": links.to(links.BILLING),
        "metadata": of_account | {stripe_objects.PLAN: plan.name},
        "subscription_data": {"metadata": of_account},
    }
    # Under one key Stripe takes one request: what is otherwise, as another plan, goes under another.
    digest = hashlib.sha256(json_text.dumps(params)).hexdigest()[:16]
    key = f"checkout-{of_account[stripe_objects.ACCOUNT]}-{account.checkouts}-{digest}"
    with stripe_api.calling() as stripe:
        opened = stripe.v1.checkout.sessions.create(params, {"idempotency_key": key})
    if opened.url is None:
        raise Conflict("This checkout is over: begin another.", code="checkout_over")
    return opened.id, opened.url


def _keep_checkout(actor: Actor, account: Row[Any], session: str, plan: str) -> None:
    """Notes the account's one open checkout. Of two at once for different plans the second is closed, and refused."""
    with actor.transaction() as connection:
        values = {"account_id": account.id, "session": session, "checkouts": account.checkouts}
        if connection.execute(_KEEP_CHECKOUT, values).rowcount:
            audit.record(connection, actor, "billing.checkout", account.id, plan=plan)
        kept = _account(connection, account.id).checkout_session
    if kept != session:
        with stripe_api.calling() as stripe:
            stripe.v1.checkout.sessions.expire(session)
        raise Conflict("Another checkout was begun at this moment: send yours again.", code="checkout_in_progress")


def change_plan(actor: Actor, account_id: UUID, plan: str) -> None:
    """Gives the account's subscription the prices of another plan, and bills or credits the difference now. The account
    has the plan as soon as Stripe's event tells of it. Raises as checkout does, and Conflict for an account without a
    subscription."""
    wanted = _sold(plan)
    with actor.transaction() as connection:
        _account(connection, account_id)
        live = _live(connection, account_id)
        if live is None:
            raise Conflict("This account has no subscription yet: begin one.", param="plan", code="not_subscribed")
    prices = stripe_prices.find(wanted)
    with stripe_api.calling() as stripe:
        found = stripe.v1.subscriptions.retrieve(live.id)
        items = _changed_items(found, plan, prices)
        if not items:
            return
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
        account = _account(connection, account_id)
    customer = _customer(actor, account)
    with stripe_api.calling() as stripe:
        configuration = stripe_portal.find(stripe)
        opened = stripe.v1.billing_portal.sessions.create(
            {"customer": customer, "configuration": configuration, "return_url": links.to(links.BILLING)}
        )
    return opened.url


_ACCOUNT = text("""
    SELECT id, name, plan, stripe_customer_id, checkout_session, checkouts, clock_timestamp() AS now,
        (SELECT count(*) FROM stripe_customers c WHERE c.account_id = a.id) AS customers
    FROM accounts a WHERE id = :account_id
""")
# Of two at once that were given the same one, the second changes nothing.
_KEEP_CHECKOUT = text("""
    UPDATE accounts SET checkout_session = :session, checkouts = checkouts + 1
    WHERE id = :account_id AND checkouts = :checkouts
""")
_KEEP_CUSTOMER = text("""
    UPDATE accounts SET stripe_customer_id = :customer WHERE id = :account_id AND stripe_customer_id IS NULL
""")
