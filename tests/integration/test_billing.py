"""/v1/billing: who may see to it, what is said where nothing is sold or Stripe is away, and who gets which mail."""

import time
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from common import ids, keys, sessions, stripe_events
from tests import stripe_lives
from tests.people import Visitor, joined, mailed, shown, signed_up
from tests.process_settings import process_settings
from tests.stripe_lives import DAY, Json
from tests.web_client import WebClient, refused

NOW = int(time.time())
POSTS = ("checkout", "plan", "portal")


@pytest.fixture
def selling(settings: dict[str, str], database: psycopg.Connection) -> Iterator[dict[str, str]]:
    """An installation that sells at a Stripe that is away."""
    away = {
        "STRIPE_SECRET_KEY": "sk_test_none",
        "STRIPE_API_BASE": "http://127.0.0.1:9",
        "STRIPE_WEBHOOK_SECRET": stripe_lives.SECRET,
    }
    with process_settings(settings | away):
        yield settings | away


def paying(web: WebClient) -> WebClient:
    """The account's own program, with a key that may see to billing."""
    return web.using(keys.create(web.caller.account_id, "billing", ["billing"]))


def tell(number: int, kind: str, at: int, told: Json) -> None:
    body = stripe_lives.body(stripe_lives.event(str(number), kind, at, told))
    assert stripe_events.receive(body, stripe_lives.signature(body))


def subscribe(account_id: UUID, status: str = "active", number: int = 1) -> None:
    named = {"batchyard_account": ids.show("acct_", account_id)}
    start = NOW - 10 * DAY
    told = stripe_lives.subscription("sub_1", "cus_1", status, "team", start, start, metadata=named)
    tell(number, "customer.subscription.updated", NOW + number, told)


def test_where_nothing_is_sold_the_plan_is_shown_and_nothing_can_be_bought(web: WebClient) -> None:
    paid = paying(web)
    assert paid.get("/v1/billing").get_json() == {
        "object": "billing", "enabled": False, "plan": "pro", "state": "none",
        "subscription": None, "grace_until": None, "plans": [],
    }  # fmt: skip
    for path in POSTS:
        error = refused(paid.post(f"/v1/billing/{path}", json={"plan": "pro"}), 409)
        assert error["code"] in ("billing_off", "not_subscribed")


def test_a_subscription_is_shown_as_stripe_told_it(selling: dict[str, str], web: WebClient) -> None:
    subscribe(web.caller.account_id)
    found = paying(web).get("/v1/billing").get_json()
    assert (found["enabled"], found["plan"], found["state"], found["grace_until"]) == (True, "team", "active", None)
    assert found["subscription"] == {
        "plan": "team",
        "price": {"usd": "299", "nano_usd": 299 * 10**9},
        "period_start": NOW - 10 * DAY,
        "period_end": NOW + 20 * DAY,
        "cancels_at": None,
    }


def test_a_stripe_that_is_away_is_a_503_and_nothing_is_kept(
    selling: dict[str, str], web: WebClient, database: psycopg.Connection
) -> None:
    error = refused(paying(web).post("/v1/billing/portal"), 503)
    assert error["code"] == "stripe_away"
    assert database.execute("SELECT 1 FROM stripe_customers").fetchall() == []


def test_a_key_has_the_scope_only_where_it_was_asked_for(web: WebClient) -> None:
    assert "billing" not in web.caller.scopes
    assert refused(web.get("/v1/billing"), 403)["code"] == "scope_missing"
    for path in POSTS:
        refused(web.post(f"/v1/billing/{path}", json={"plan": "pro"}), 403)


def test_owners_and_billing_members_see_to_it_and_developers_do_not(web: WebClient) -> None:
    ada = signed_up(web.app, "ada@example.org")
    assert shown(ada.get("/v1/billing"))["plan"] == "free"
    assert shown(joined(web.app, ada, "bob@example.org", "billing").get("/v1/billing"))["plan"] == "free"
    refused(joined(web.app, ada, "eve@example.org", "developer").get("/v1/billing"), 403)


def account_of(visitor: Visitor) -> UUID:
    return sessions.of_access_token(visitor.access_token).working_in


def test_who_may_do_something_about_it_is_told_of_a_failed_payment_and_of_another_plan_once(
    selling: dict[str, str], web: WebClient, database: psycopg.Connection
) -> None:
    ada = signed_up(web.app, "ada@example.org")
    joined(web.app, ada, "bob@example.org", "billing")
    joined(web.app, ada, "eve@example.org", "developer")
    subscribe(account_of(ada))
    for number in (2, 3):
        invoice = stripe_lives.invoice("in_1", "cus_1", "sub_1", "open", NOW)
        tell(number, "invoice.payment_failed", NOW + number, invoice)
    subscribe(account_of(ada), "past_due", 4)
    for address in ("ada@example.org", "bob@example.org"):
        (changed, failed) = mailed(database, address)
        assert (changed[0], failed[0]) == ("plan_changed", "payment_failed")
        assert "plan team" in changed[1]
        assert "/account/billing" in failed[1]
    assert mailed(database, "eve@example.org") == []


@pytest.mark.parametrize("sent", [{}, {"plan": 5}, {"plan": "pro", "coupon": "x"}, {"plan": "no\0such"}])
@pytest.mark.parametrize("path", ["checkout", "plan"])
def test_a_plan_that_is_none_is_refused(path: str, sent: Json, selling: dict[str, str], web: WebClient) -> None:
    refused(paying(web).post(f"/v1/billing/{path}", json=sent), 400)


def test_the_operator_sees_how_an_account_stands(selling: dict[str, str], web: WebClient) -> None:
    account = ids.show("acct_", web.caller.account_id)
    runner = web.app.test_cli_runner()
    assert runner.invoke(args=["billing", "show", account]).output == "plan pro, subscription none\n"
    subscribe(web.caller.account_id)
    found = runner.invoke(args=["billing", "show", account]).output.splitlines()
    assert found[0] == "plan team, subscription active"
    assert found[1].startswith("sub_1  team  active")
    assert runner.invoke(args=["billing", "forget-customer", account]).output == "plan free\n"
    assert runner.invoke(args=["billing", "show", account]).output.startswith("plan free, subscription ended\n")
    assert runner.invoke(args=["billing", "forget-customer", account]).exit_code == 1
    for nobody in ("acct_" + "0" * 32, "nobody"):
        assert runner.invoke(args=["billing", "show", nobody]).exit_code == 1
