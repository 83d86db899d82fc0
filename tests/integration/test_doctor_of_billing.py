"""`flask --app wsgi doctor`: plans that do not follow from what Stripe told, and who pays twice or for nothing."""

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from common import ids, plans, stripe_events
from tests import stripe_lives
from tests.process_settings import process_settings
from tests.stripe_lives import Json
from tests.web_client import WebClient

NOW = int(time.time())


@pytest.fixture
def settings(env: dict[str, str]) -> Iterator[dict[str, str]]:
    selling = env | {"STRIPE_SECRET_KEY": "sk_test_none", "STRIPE_WEBHOOK_SECRET": stripe_lives.SECRET}
    with process_settings(selling):
        yield selling


def begin(subscription: str, customer: str, metadata: Json) -> None:
    shown = stripe_lives.subscription(subscription, customer, "active", "team", NOW, NOW, metadata=metadata)
    body = stripe_lives.body(stripe_lives.event(subscription, "customer.subscription.created", NOW, shown))
    assert stripe_events.receive(body, stripe_lives.signature(body))


def found_by_doctor(web: WebClient) -> list[str]:
    result = web.app.test_cli_runner().invoke(args=["doctor"])
    *found, last = result.output.splitlines()
    assert last.startswith("checked "), result.output
    return found


def test_what_follows_from_its_events_is_in_order_and_what_does_not_is_named(
    web: WebClient, database: psycopg.Connection
) -> None:
    account = ids.show("acct_", web.caller.account_id)
    begin("sub_1", "cus_1", {"batchyard_account": account})
    assert found_by_doctor(web) == []
    database.execute("UPDATE accounts SET billed_plan = 'pro'")
    assert found_by_doctor(web) == [
        f"billing: {account}: Stripe's events give it the plan team, and it was given pro"
    ]  # fmt: skip


def test_who_pays_twice_or_for_nobody_is_named(web: WebClient) -> None:
    account = ids.show("acct_", web.caller.account_id)
    begin("sub_1", "cus_1", {"batchyard_account": account})
    begin("sub_2", "cus_1", {})
    begin("sub_3", "cus_2", {})
    (twice, nobody) = found_by_doctor(web)
    assert twice == f"billing: {account}: pays for 2 subscriptions at once"
    assert nobody.startswith("billing: sub_3: ")


def test_who_pays_for_a_plan_that_the_plans_file_has_no_more_is_named(
    web: WebClient, settings: dict[str, str], tmp_path: Path
) -> None:
    begin("sub_1", "cus_1", {"batchyard_account": ids.show("acct_", web.caller.account_id)})
    file = tmp_path / "plans.toml"
    file.write_text(plans.OWN_FILE.read_text().replace("[team]", "[squad]"))
    with process_settings(settings | {"PLANS_FILE": str(file)}):
        found = [line for line in found_by_doctor(web) if ": sub_1: " in line]
    assert found == ["billing: sub_1: is to the plan team, which the plans file does not have: it gives nothing"]
