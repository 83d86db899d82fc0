"""How what an account pays for looks in the API's JSON."""

from common import plans
from common.billing import Status
from common.entitlement import Subscription
from common.money import MILLION, NANO_DOLLARS_PER_CENT
from common.plans import Plan
from web import billing_schemas, render


def billing(found: Status) -> billing_schemas.Billing:
    standing = found.standing
    return {
        "object": "billing",
        "enabled": found.enabled,
        "plan": found.plan,
        "state": standing.state,
        "subscription": _subscription(standing.subscription) if standing.subscription is not None else None,
        "grace_until": render.unix(standing.grace_until),
        "plans": [_plan(plan) for plan in plans.sold().values()] if found.enabled else [],
    }


def _subscription(found: Subscription) -> billing_schemas.BilledSubscription:
    return {
        "plan": found.plan,
        "price": render.money(found.amount * NANO_DOLLARS_PER_CENT) if found.amount is not None else None,
        "period_start": render.unix(found.period_start),
        "period_end": render.unix(found.period_end),
        "cancels_at": render.unix(found.cancel_at),
    }


def _plan(plan: Plan) -> billing_schemas.SoldPlan:
    return {
        "name": plan.name,
        "price": render.money(plan.price * NANO_DOLLARS_PER_CENT),
        "included_tokens": plan.included_tokens,
        "price_of_more_tokens": render.money(plan.overage_price * MILLION),
    }


def page(url: str) -> billing_schemas.BillingPage:
    return {"object": "billing.page", "url": url}
