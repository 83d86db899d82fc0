"""Checkouts: pages of Stripe's where a subscription begins. An account has one at most that can be paid."""

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import text

from common import audit, billed_accounts, json_text, links, stripe_api, stripe_objects, stripe_prices
from common.audit import Actor
from common.billed_accounts import BilledAccount
from common.errors import Conflict
from common.plans import Plan
from common.stripe_api import StripeRefused

if TYPE_CHECKING:
    from common.stripe_api import SessionCreateParams, SessionCreateParamsLineItem, StripeClient


def still_open(session: str, customer: str | None, plan: str) -> str | None:
    """Where an earlier checkout can still be paid, if it is for this plan and of the customer that the account has now;
    any other is closed. Raises Conflict for one that was paid, and whose subscription has not been told of yet."""
    with stripe_api.calling() as stripe:
        try:
            with stripe_api.calling():
                found = stripe.v1.checkout.sessions.retrieve(session)
        except StripeRefused as refused:
            if refused.reason != "resource_missing":
                raise
            return None
        if found.status == "complete" and _is_running(stripe, found.subscription):
            raise Conflict("This account has just paid for a plan: it has it in a moment.", code="already_subscribed")
        if found.status != "open":
            return None
        is_for_it = stripe_api.metadatum(found.metadata, stripe_objects.PLAN) == plan
        if is_for_it and found.customer == customer and found.url is not None:
            return found.url
        # Where it is paid at this moment, Stripe refuses, and so do we.
        stripe.v1.checkout.sessions.expire(session)
    return None


def _is_running(stripe: "StripeClient", subscription: object) -> bool:
    """Of a checkout long ago it may have ended since."""
    if not isinstance(subscription, str):
        return False
    return stripe.v1.subscriptions.retrieve(subscription).status not in stripe_objects.ENDED_SUBSCRIPTION


def open_one(actor: Actor, account: BilledAccount, customer: str, plan: Plan) -> tuple[str, str]:
    """The id and the address of a new one."""
    prices = stripe_prices.find(plan)
    of_account = stripe_objects.of_account(account.id)
    items: list[SessionCreateParamsLineItem] = [{"price": prices.monthly, "quantity": 1}]
    # What is metered has no quantity.
    items += [{"price": prices.metered}] if prices.metered is not None else []
    params: SessionCreateParams = {
        "mode": "subscription",
        "customer": customer,
        "client_reference_id": account.shown_id,
        "line_items": items,
        "success_url": links.to(links.BILLING),
        "cancel_url": links.to(links.BILLING),
        "metadata": of_account | {stripe_objects.PLAN: plan.name},
        "subscription_data": {"metadata": of_account},
    }
    # Under one key Stripe takes one request: what is otherwise, as another plan, goes under another.
    digest = hashlib.sha256(json_text.dumps(params)).hexdigest()[:16]
    key = f"checkout-{account.shown_id}-{account.checkouts}-{digest}"
    with billed_accounts.under_keys(actor, account) as stripe:
        opened = stripe.v1.checkout.sessions.create(params, {"idempotency_key": key})
    if opened.url is None:
        raise Conflict("This checkout is over: begin another.", code="checkout_over")
    return opened.id, opened.url


def keep(actor: Actor, account: BilledAccount, session: str, plan: str) -> None:
    """Notes the account's one checkout. Of two at once for different plans the second is closed, and refused."""
    with actor.transaction() as connection:
        values = {"account_id": account.id, "session": session, "checkouts": account.checkouts}
        if connection.execute(_KEEP, values).rowcount:
            audit.record(connection, actor, "billing.checkout", account.id, plan=plan)
        kept = billed_accounts.get(connection, account.id).checkout_session
    if kept != session:
        with stripe_api.calling() as stripe:
            stripe.v1.checkout.sessions.expire(session)
        raise Conflict("Another checkout was begun at this moment: send yours again.", code="checkout_in_progress")


# Of two at once that were given the same one, the second changes nothing.
_KEEP = text("""
    UPDATE accounts SET checkout_session = :session, checkouts = checkouts + 1
    WHERE id = :account_id AND checkouts = :checkouts
""")
