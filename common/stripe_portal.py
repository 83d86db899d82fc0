"""How Stripe's customer portal is set up: what a customer may do there."""

from typing import TYPE_CHECKING, Any

from common import links, stripe_api
from common.errors import Conflict

if TYPE_CHECKING:
    from common.stripe_api import StripeClient

# Of its metadata, with the number of what is below: counted up whenever that is another.
MARK = "batchyard_portal"
REVISION = "1"
MOST_LISTED = 100


def wanted() -> Any:
    """What it is made and changed with. A subscription ends with the period that is paid. Plans are changed by us: of a
    subscription with a metered price the portal does not change the prices."""
    return {
        "default_return_url": links.to(links.BILLING),
        "features": {
            "customer_update": {"enabled": True, "allowed_updates": ["email", "name", "address", "tax_id"]},
            "invoice_history": {"enabled": True},
            "payment_method_update": {"enabled": True},
            "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
            "subscription_update": {"enabled": False},
        },
        "metadata": {MARK: REVISION},
    }


def known(stripe: "StripeClient") -> dict[str, str]:
    """The revisions that there are by their ids, the newest first."""
    found = stripe.v1.billing_portal.configurations.list({"active": True, "limit": MOST_LISTED})
    revisions = {one.id: stripe_api.metadatum(one.metadata, MARK) for one in found.data}
    return {name: revision for name, revision in revisions.items() if revision is not None}


def find(stripe: "StripeClient") -> str:
    """The configuration that billing setup made. Raises Conflict where it has made none."""
    found = next(iter(known(stripe)), None)
    if found is None:
        raise Conflict("There is no portal yet: the operator has to run `billing setup`.", code="billing_not_set_up")
    return found
