"""Objects of the stand-in for Stripe have the fields that the installed stripe package says they have."""

from typing import get_args

import pytest
import stripe

from local.stripe.events import API_VERSION
from tests.stripe_process import StandIn
from tests.stripe_shop import Shop


def test_the_api_version_is_that_of_the_installed_package() -> None:
    assert stripe.api_version == API_VERSION


@pytest.mark.parametrize(
    "name",
    [
        "billing.meter",
        "billing.meter_event",
        "billing.meter_event_summary",
        "billing_portal.configuration",
        "billing_portal.session",
        "checkout.session",
        "customer",
        "event",
        "invoice",
        "line_item",
        "price",
        "product",
        "subscription",
        "subscription_item",
        "test_helpers.test_clock",
        "webhook_endpoint",
    ],
)
def test_an_object_has_every_field_that_is_never_absent_and_no_other(
    objects: dict[str, stripe.StripeObject], name: str
) -> None:
    fields = type(objects[name]).__annotations__
    shown = {*objects[name].to_dict()}
    assert shown - {*fields} == set()
    wanted = {field for field, kind in fields.items() if type(None) not in get_args(kind)}
    assert wanted - shown - {"OBJECT_NAME"} == set()


@pytest.fixture(scope="module")
def objects(shared_standin: StandIn) -> dict[str, stripe.StripeObject]:
    """One of each kind."""
    shop = Shop(shared_standin)
    return {one["object"]: one for one in _all_objects(shop)}


def _all_objects(shop: Shop) -> list[stripe.StripeObject]:
    v1 = shop.v1
    plan = shop.plan()
    customer, clock = shop.customer()
    subscription = v1.subscriptions.retrieve(shop.subscribe(customer, plan))
    invoice = shop.invoices(customer)[0]
    features: stripe.params.billing_portal.ConfigurationCreateParamsFeatures = {"invoice_history": {"enabled": True}}
    configuration = v1.billing_portal.configurations.create({"features": features})
    session = v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "line_items": [{"price": plan.licensed, "quantity": 1}],
            "success_url": "http://app.example/",
        }
    )
    used = v1.billing.meter_events.create(
        {"event_name": shop.event_name, "payload": {"stripe_customer_id": customer, "value": "1"}}
    )
    hour = used.timestamp // 3_600 * 3_600
    times: stripe.params.billing.MeterListEventSummariesParams = {
        "customer": customer,
        "start_time": hour,
        "end_time": hour + 3_600,
    }
    return [
        v1.billing.meters.retrieve(shop.meter),
        used,
        v1.billing.meters.event_summaries.list(shop.meter, times).data[0],
        configuration,
        v1.billing_portal.sessions.create(
            {"customer": customer, "configuration": configuration.id, "return_url": "http://app.example/"}
        ),
        session,
        v1.customers.retrieve(customer),
        v1.events.list({"limit": 1}).data[0],
        invoice,
        invoice.lines.data[0],
        v1.prices.retrieve(plan.metered),
        v1.products.retrieve(plan.product),
        subscription,
        subscription["items"].data[0],
        v1.test_helpers.test_clocks.retrieve(clock),
        v1.webhook_endpoints.create(
            {"url": "http://127.0.0.1:9/", "enabled_events": ["radar.early_fraud_warning.created"]}
        ),
    ]
