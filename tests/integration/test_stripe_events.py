"""/stripe/webhook: what is taken, what is refused, and what an event does to the account that it is about."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from werkzeug.test import TestResponse

from common import accounts, ids, plans
from common.audit import COMMAND_LINE
from tests import stripe_lives, work
from tests.databases import one
from tests.process_settings import process_settings
from tests.stripe_lives import DAY, MONTH, Json
from tests.web_client import WebClient, own_logging, refused
from worker import closing, sweep
from worker.outcomes import record

NOW = int(time.time())
START = NOW - 40 * DAY


@pytest.fixture
def settings(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """As everywhere, of an installation that sells."""
    selling = env | {"STRIPE_SECRET_KEY": "sk_test_none", "STRIPE_WEBHOOK_SECRET": stripe_lives.SECRET}
    with process_settings(selling):
        yield selling


class Stripe:
    """Tells of one customer of an account."""

    def __init__(self, web: WebClient) -> None:
        self.web = web
        self.account_id: UUID = web.caller.account_id
        self._told = 0

    def post(self, body: bytes, signature: str | None = None) -> TestResponse:
        headers = {"Stripe-Signature": stripe_lives.signature(body) if signature is None else signature}
        return self.web.request("POST", "/stripe/webhook", headers=headers, data=body)

    def tell(self, kind: str, shown: Json, at: int = NOW, **changes: Any) -> TestResponse:
        self._told += 1
        event = stripe_lives.event(str(self._told), kind, at, shown) | changes
        answer = self.post(stripe_lives.body(event))
        assert answer.status_code == 200, answer.text
        return answer

    def subscription(self, status: str = "active", plan: str | None = "team", **other: Any) -> Json:
        metadata = {"batchyard_account": ids.show("acct_", self.account_id)}
        period = NOW - 10 * DAY
        return stripe_lives.subscription("sub_1", "cus_1", status, plan, START, period, metadata=metadata) | other

    def plan(self) -> str:
        return accounts.get(self.account_id).plan


@pytest.fixture
def stripe(web: WebClient) -> Stripe:
    """Of an account that its operator has put on pro."""
    return Stripe(web)


def failed_invoice(at: int, name: str = "in_1", status: str = "open") -> Json:
    return stripe_lives.invoice(name, "cus_1", "sub_1", status, at)


def test_a_subscription_gives_its_plan_at_once_and_its_end_takes_it(stripe: Stripe, web: WebClient) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription("incomplete"))
    assert stripe.plan() == "pro"
    stripe.tell("customer.subscription.updated", stripe.subscription())
    assert stripe.plan() == "team"
    limits = web.get("/v1/limits").get_json()
    assert (limits["plan"], limits["limits"]["retention_days"]) == ("team", 90)
    stripe.tell("customer.subscription.deleted", stripe.subscription("canceled"), NOW + 1)
    assert stripe.plan() == "free"


def test_an_event_that_comes_again_changes_nothing(stripe: Stripe) -> None:
    event = stripe_lives.body(stripe_lives.event("1", "customer.subscription.created", NOW, stripe.subscription()))
    assert stripe.post(event).get_json() == {"received": True, "repeated": False}
    accounts.change(COMMAND_LINE, stripe.account_id, {"plan": "free"})
    assert stripe.post(event).get_json() == {"received": True, "repeated": True}
    assert stripe.plan() == "free"


def test_an_older_state_never_overwrites_a_newer_one(stripe: Stripe) -> None:
    stripe.tell("customer.subscription.updated", stripe.subscription(plan="pro"), NOW)
    stripe.tell("customer.subscription.updated", stripe.subscription(plan="team"), NOW - 1)
    stripe.tell("customer.subscription.created", stripe.subscription("incomplete"), NOW)
    assert stripe.plan() == "pro"
    stripe.tell("customer.subscription.deleted", stripe.subscription("canceled"), NOW - 2)
    stripe.tell("customer.subscription.updated", stripe.subscription(), NOW + 1)
    assert stripe.plan() == "free"


def test_what_an_operator_sets_stands_until_stripe_gives_another_plan(stripe: Stripe) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription())
    accounts.change(COMMAND_LINE, stripe.account_id, {"plan": "pro"})
    stripe.tell("customer.subscription.updated", stripe.subscription(cancel_at_period_end=True), NOW + 1)
    assert stripe.plan() == "pro"
    stripe.tell("customer.subscription.deleted", stripe.subscription("canceled"), NOW + 2)
    assert stripe.plan() == "free"


def test_a_failed_payment_leaves_the_plan_for_the_grace_and_then_the_sweep_takes_it(
    stripe: Stripe, database: psycopg.Connection
) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription())
    failed = NOW - 6 * DAY
    stripe.tell("invoice.payment_failed", failed_invoice(NOW - 10 * DAY), failed)
    assert stripe.plan() == "team"
    # Another attempt gives no longer a grace.
    stripe.tell("invoice.payment_failed", failed_invoice(NOW - 10 * DAY), NOW)
    (until,) = one(database, "SELECT extract(epoch FROM grace_until)::int FROM accounts")
    assert until == failed + 7 * DAY
    sweep.run()
    assert stripe.plan() == "team"
    database.execute("UPDATE stripe_invoices SET failed_at = failed_at - interval '1 day'")
    database.execute("UPDATE accounts SET billing_due_at = now()")
    sweep.run()
    assert stripe.plan() == "free"
    assert one(database, "SELECT billing_due_at, grace_until, moving FROM accounts") == (None, None, False)
    stripe.tell("invoice.paid", failed_invoice(NOW - 10 * DAY, status="paid"), NOW + 5)
    assert stripe.plan() == "team"


def test_a_subscription_that_was_to_end_ends_though_nobody_told_of_it(
    stripe: Stripe, database: psycopg.Connection
) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription(cancel_at=NOW + DAY))
    sweep.run()
    assert stripe.plan() == "team"
    database.execute("UPDATE stripe_subscriptions SET cancel_at = now() - interval '1 minute'")
    database.execute("UPDATE accounts SET billing_due_at = now() - interval '1 minute'")
    sweep.run()
    assert stripe.plan() == "free"


def test_an_account_whose_plan_cannot_be_settled_holds_up_nobody_else(
    stripe: Stripe, database: psycopg.Connection
) -> None:
    other = accounts.create("Bob", "pro").id
    metadata = {"batchyard_account": ids.show("acct_", other)}
    stripe.tell("customer.subscription.created", stripe.subscription())
    stripe.tell("customer.subscription.created", stripe.subscription(id="sub_2", customer="cus_2", metadata=metadata))
    database.execute("UPDATE stripe_subscriptions SET cancel_at = now() - interval '1 minute'")
    database.execute("UPDATE accounts SET billing_due_at = now() - interval '1 minute'")
    database.execute(
        "UPDATE accounts SET overrides = '{\"no_such_limit\": 1}', billing_due_at = billing_due_at - interval '1 hour'"
        " WHERE id = %s",
        [other],
    )
    sweep.run()
    assert stripe.plan() == "free"
    assert one(database, "SELECT plan FROM accounts WHERE id = %s", other) == ("team",)


def test_a_deleted_customer_pays_for_nothing_and_is_not_asked_again(
    stripe: Stripe, database: psycopg.Connection
) -> None:
    customer: LiteralString = "SELECT stripe_customer_id FROM accounts"
    stripe.tell("customer.subscription.created", stripe.subscription())
    assert one(database, customer) == ("cus_1",)
    stripe.tell("customer.deleted", {"id": "cus_1", "object": "customer", "metadata": {}})
    assert stripe.plan() == "free"
    assert one(database, customer) == (None,)
    stripe.tell("customer.subscription.created", stripe.subscription(id="sub_2", customer="cus_2"), NOW + 1)
    assert (stripe.plan(), one(database, customer)) == ("team", ("cus_2",))


def test_events_of_a_customer_count_as_soon_as_one_of_them_says_whose_it_is(stripe: Stripe) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription(metadata={}))
    stripe.tell("invoice.paid", failed_invoice(NOW, status="paid"))
    assert stripe.plan() == "pro"
    named = {"batchyard_account": ids.show("acct_", stripe.account_id)}
    checkout = {"id": "cs_1", "object": "checkout.session", "customer": "cus_1", "metadata": named}
    stripe.tell("checkout.session.completed", checkout)
    assert stripe.plan() == "team"


@pytest.mark.parametrize("named", ["acct_" + "0" * 32, "acct_1", "", 5, None])
def test_a_customer_of_no_account_here_changes_nothing(
    named: object, stripe: Stripe, database: psycopg.Connection
) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription(metadata={"batchyard_account": named}))
    assert stripe.plan() == "pro"
    assert one(database, "SELECT account_id FROM stripe_subscriptions") == (None,)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("customer.subscription.created", {"customer": None, "metadata": None, "items": {"data": []}}),
        ("invoice.paid", {"customer": None, "parent": None}),
        ("invoice.payment_failed", {"parent": {"subscription_details": None}}),
        ("checkout.session.completed", {"customer": None, "metadata": None}),
        ("customer.deleted", {"metadata": None}),
    ],
)
def test_what_an_operator_sells_otherwise_at_stripe_is_taken_and_changes_nothing(
    kind: str, changes: Json, stripe: Stripe
) -> None:
    shown = stripe.subscription(metadata={}) if "subscription" in kind else failed_invoice(NOW)
    stripe.tell(kind, shown | changes)
    assert stripe.plan() == "pro"


def test_an_unknown_type_is_stored_and_that_is_all(stripe: Stripe, database: psycopg.Connection) -> None:
    stripe.tell("radar.early_fraud_warning.created", {"id": "issfr_1", "customer": ["of", 1, "form"]})
    assert one(database, "SELECT id, type FROM stripe_events") == ("evt_1", "radar.early_fraud_warning.created")


def test_another_plan_moves_the_open_batches_and_after_a_death_the_sweep_does(
    stripe: Stripe, web: WebClient, database: psycopg.Connection
) -> None:
    work.bulk(web.caller, 3)
    stripe.tell("customer.subscription.created", stripe.subscription())
    assert one(database, "SELECT plan FROM batches") == ("team",)
    # As a process leaves it that dies between the commit and the move.
    database.execute("UPDATE batches SET plan = 'pro'")
    database.execute("UPDATE accounts SET moving = true")
    sweep.run()
    assert one(database, "SELECT b.plan, a.moving FROM batches b, accounts a") == ("team", False)


def test_what_ended_under_a_plan_runs_again_under_the_one_that_its_account_has(
    stripe: Stripe, web: WebClient, database: psycopg.Connection
) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription())
    batch_id = work.requests(web.caller, [work.request(number) for number in range(2)])
    for claim in work.all_claims(plan="team"):
        record(work.outcomes(claim, "failed"))
    stripe.tell("customer.subscription.deleted", stripe.subscription("canceled"), NOW + 1)
    assert web.post(f"/v1/batches/{ids.show('batch_', batch_id)}/retry").status_code == 200
    assert one(database, "SELECT plan, state FROM batches") == ("free", "in_progress")


def test_a_batch_whose_upload_began_before_a_change_of_plan_is_the_new_plans(
    stripe: Stripe, web: WebClient, database: psycopg.Connection
) -> None:
    before = web.caller
    stripe.tell("customer.subscription.created", stripe.subscription())
    work.requests(before, [work.request(1)])
    assert one(database, "SELECT plan FROM batches") == ("team",)


def test_what_is_being_cancelled_as_the_plan_changes_is_kept_as_the_new_one_says(
    stripe: Stripe, web: WebClient, database: psycopg.Connection
) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription())
    batch_id = work.requests(web.caller, [work.request(1)])
    assert web.post(f"/v1/batches/{ids.show('batch_', batch_id)}/cancel").status_code == 200
    stripe.tell("customer.subscription.deleted", stripe.subscription("canceled"), NOW + 1)
    closing.close(batch_id)
    (days,) = one(database, "SELECT extract(day FROM results_expire_at - ended_at)::int FROM batches")
    assert days == plans.get("free").retention_days


def test_a_batch_of_a_bigger_plan_is_run_to_its_end_on_a_smaller_one(
    stripe: Stripe, web: WebClient, database: psycopg.Connection
) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription())
    # More rows than the free plan takes in one batch.
    database.execute("UPDATE accounts SET overrides = '{\"max_rows\": 3}'")
    batch_id = work.bulk(work.caller_of(stripe.account_id), 3)
    database.execute("UPDATE accounts SET overrides = '{\"max_rows\": 1}'")
    (running,) = work.take("team", rows=1)
    stripe.tell("customer.subscription.deleted", stripe.subscription("canceled"), NOW + 1)
    assert work.take("team") == []
    (rest,) = work.take("free")
    assert stripe.plan() == "free"
    record([work.outcome(running, 0), *(work.outcome(rest, job.seq) for job in rest.jobs)])
    assert web.batch(batch_id)["status"] == "completed"


def test_a_change_of_plan_is_in_the_audit_log(stripe: Stripe, database: psycopg.Connection) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription())
    query: LiteralString = "SELECT actor, details FROM audit_log WHERE action = 'account.change'"
    assert one(database, query) == ("billing", {"plan": {"from": "pro", "to": "team"}})


def forged_signatures(body: bytes) -> dict[str, str]:
    return {
        "none": "",
        "of another secret": stripe_lives.signature(body, "whsec_other"),
        "of another body": stripe_lives.signature(body + b" "),
        "too old": stripe_lives.signature(body, at=NOW - 3_600),
        "of another scheme": stripe_lives.signature(body).replace("v1=", "v0="),
        "of no time": stripe_lives.signature(body).replace("t=", "t=x"),
        "not ASCII": stripe_lives.signature(body).replace("v1=", "v1=\xe9"),
        "nonsense": ",=,v1,t",
    }


@pytest.mark.parametrize("how", forged_signatures(b""))
def test_a_forged_event_is_refused_and_leaves_nothing(how: str, stripe: Stripe, database: psycopg.Connection) -> None:
    body = stripe_lives.body(stripe_lives.event("1", "customer.subscription.created", NOW, stripe.subscription()))
    assert refused(stripe.post(body, forged_signatures(body)[how]), 400)["code"] == "forged"
    assert stripe.plan() == "pro"
    assert database.execute("SELECT 1 FROM stripe_events").fetchall() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"id": "evt_1", "type": "x"}', b'{"id": ' + b"[" * 100_000],
)  # fmt: skip
def test_what_is_signed_and_yet_no_event_is_refused(body: bytes, stripe: Stripe) -> None:
    refused(stripe.post(body), 400)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None}, {"id": "sub\0"}, {"customer": {"id": "cus_1"}}, {"status": 5}, {"start_date": 10**20},
        {"items": {"data": [{"price": None}]}}, {"items": 5}, {"metadata": []}, {"cancel_at": "soon"},
    ],
    ids=str,
)  # fmt: skip
def test_a_subscription_in_no_known_shape_is_refused_and_its_event_comes_again(
    wrong: Json, stripe: Stripe, database: psycopg.Connection
) -> None:
    event = stripe_lives.event("1", "customer.subscription.created", NOW, stripe.subscription() | wrong)
    refused(stripe.post(stripe_lives.body(event)), 400)
    assert database.execute("SELECT 1 FROM stripe_events").fetchall() == []


def test_an_event_of_real_money_is_refused_where_there_is_none(stripe: Stripe) -> None:
    event = stripe_lives.event("1", "customer.subscription.created", NOW, stripe.subscription(), livemode=True)
    assert refused(stripe.post(stripe_lives.body(event)), 400)["code"] == "wrong_livemode"


def test_a_body_that_no_event_has_is_refused(stripe: Stripe) -> None:
    refused(stripe.post(b"x" * (2**20 + 1)), 413)


def test_without_a_secret_no_event_is_taken(env: dict[str, str]) -> None:
    with process_settings(env), own_logging():
        assert refused(Stripe(WebClient()).post(b"{}"), 409)["code"] == "billing_off"


def test_a_plan_that_is_no_longer_sold_stays_what_its_subscribers_have(
    stripe: Stripe, settings: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(plans.OWN_FILE.read_text().replace("price = 29_900\n", "price = 0\n"))
    with process_settings(settings | {"PLANS_FILE": str(file)}):
        assert "team" not in plans.sold()
        stripe.tell("customer.subscription.updated", stripe.subscription())
        assert stripe.plan() == "team"


@pytest.mark.parametrize("field", ["current_period_start", "current_period_end"])
def test_a_moment_so_far_that_nothing_can_follow_it_is_refused(field: str, stripe: Stripe) -> None:
    shown = stripe.subscription("past_due")
    for item in shown["items"]["data"]:
        item[field] = 253_402_300_799
    body = stripe_lives.body(stripe_lives.event("far", "customer.subscription.updated", NOW, shown))
    refused(stripe.post(body), 400)


def test_a_subscription_to_something_else_leaves_the_plan_alone(stripe: Stripe) -> None:
    stripe.tell("customer.subscription.created", stripe.subscription(plan=None))
    assert stripe.plan() == "pro"
    stripe.tell("customer.subscription.updated", stripe.subscription(), NOW + 1)
    stripe.tell("customer.subscription.updated", stripe.subscription(plan=None), NOW + 2)
    assert stripe.plan() == "free"


def test_periods_are_kept_as_they_were_told(stripe: Stripe, database: psycopg.Connection) -> None:
    first = stripe.subscription()
    stripe.tell("customer.subscription.created", first)
    following = stripe_lives.subscription("sub_1", "cus_1", "active", "team", START, NOW - 10 * DAY + MONTH)
    stripe.tell("customer.subscription.updated", following, NOW + 1)
    moments = [
        row[0] for row in database.execute("SELECT extract(epoch FROM at)::int FROM stripe_boundaries ORDER BY at")
    ]
    assert moments == [START, NOW - 10 * DAY, NOW + 20 * DAY, NOW + 50 * DAY]
    assert one(database, "SELECT extract(epoch FROM metered_from)::int FROM accounts") == (START,)
