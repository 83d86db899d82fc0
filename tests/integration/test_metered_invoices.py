"""From receipts to invoices: Stripe's events say when periods end, and each invoice bills the tokens of its own."""

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
import stripe

from common import accounts, ids, meter_sender, metering, stripe_events
from tests import stripe_lives
from tests.databases import one
from tests.metering import use
from tests.process_settings import process_settings
from tests.stripe_process import KEY, METER, StandIn

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@pytest.fixture
def selling(settings: dict[str, str], billing_on: None, standin: StandIn) -> Iterator[None]:
    """Also takes the stand-in's events, as if they were signed for it."""
    billing = {"STRIPE_SECRET_KEY": KEY, "STRIPE_API_BASE": standin.url, "STRIPE_WEBHOOK_SECRET": stripe_lives.SECRET}
    with process_settings(settings | billing):
        yield


def daily_price(client: stripe.StripeClient) -> str:
    """Of the plan pro, for each token, by the day: so a period that ends just now is not a month old."""
    meter = next(one.id for one in client.v1.billing.meters.list().data if one.event_name == METER)
    return client.v1.prices.create(
        {
            "product": client.v1.products.create({"name": "Pro by the day"}).id,
            "currency": "usd",
            "unit_amount": 1,
            "recurring": {"interval": "day", "usage_type": "metered", "meter": meter},
            "metadata": {"batchyard_plan": "pro"},
        }
    ).id


def take_in_events(standin: StandIn, customer: str) -> None:
    """All that Stripe tells of a customer, in no order."""
    status, _, listed = standin.ask("GET", "/v1/events?limit=100", headers={"Authorization": f"Bearer {KEY}"})
    assert status == 200
    of_customer = [event for event in json.loads(listed)["data"] if customer in json.dumps(event)]
    random.Random(3).shuffle(of_customer)
    for event in of_customer:
        body = json.dumps(event).encode()
        stripe_events.receive(body, stripe_lives.signature(body))


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.usefixtures("selling")
def test_each_period_is_billed_its_own_tokens(database: psycopg.Connection, standin: StandIn) -> None:
    client = standin.client()
    account_id: UUID = accounts.create("Ann", "free").id
    now = int(time.time())
    boundary = now - 30 * MINUTE
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": boundary - DAY}).id
    named = {"batchyard_account": ids.show("acct_", account_id)}
    customer = client.v1.customers.create({"test_clock": clock, "metadata": named}).id
    database.execute("UPDATE accounts SET stripe_customer_id = %s WHERE id = %s", [customer, account_id])
    client.v1.subscriptions.create({"customer": customer, "items": [{"price": daily_price(client)}], "metadata": named})
    client.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": now})
    take_in_events(standin, customer)
    assert one(database, "SELECT metered_from FROM accounts") == (moment(boundary - DAY),)

    use(database, account_id, moment(boundary - DAY - 0.001), 10**9)
    use(database, account_id, moment(boundary - DAY), 100)
    use(database, account_id, moment(boundary - 20 * HOUR), 20)
    use(database, account_id, moment(boundary - 0.001), 7)
    use(database, account_id, moment(boundary), 3_000)
    use(database, account_id, moment(now - MINUTE), 40_000)
    metering.roll_up(running_hour=True)
    while came := meter_sender.send_due():
        assert set(came) == {"delivered"}

    client.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": boundary + DAY + 2 * HOUR})
    invoices = [*reversed(client.v1.invoices.list({"customer": customer}).data)]
    billed = [line.quantity for invoice in invoices if invoice.status != "draft" for line in invoice.lines.data]
    assert [tokens for tokens in billed if tokens] == [127, 43_000]
