"""A plan is bought, changed, lost and cancelled: through the API, on the stand-in's pages, and by the events that it
sends to a running web process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest

from common import accounts, billing, keys
from common.audit import COMMAND_LINE
from local.stack import Stack
from tests import databases
from tests.conftest import redis_database
from tests.process_settings import process_settings
from tests.selling import DAY, Account, Browser, settings_of, shop, told_by
from tests.stripe_process import StandIn
from tests.web_process import WebProcess
from worker import sweep


@dataclass
class Shop:
    web: WebProcess
    standin: StandIn
    env: dict[str, str]

    def account(self, plan: str = "free") -> Account:
        with process_settings(self.env):
            key = keys.create(accounts.create("Ann", plan).id, "test", ["billing", "usage"])
        return Account(self.web, key)


@pytest.fixture(scope="module")
def running(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with databases.cloned(services) as urls:
        env = urls | {
            "REDIS_URL": redis_database(services, 6),
            "STORAGE_URL": folder.as_uri(),
            "SECRET_KEY": "x" * 32,
            "PROVIDER_API_KEY": "none",
            "PAYMENT_GRACE_DAYS": "3",
        }
        with shop(env, folder) as (web, standin):
            yield Shop(web, standin, env | settings_of(standin))


@pytest.fixture
def browser() -> Browser:
    return Browser()


def test_a_plan_is_bought_changed_cancelled_and_gone_at_the_end_of_its_period(running: Shop, browser: Browser) -> None:
    account = running.account()
    before = account.get("billing")
    assert (before["enabled"], before["state"], before["subscription"]) == (True, "none", None)
    assert before["plans"] == [
        {
            "name": "pro",
            "price": {"usd": "29", "nano_usd": 29 * 10**9},
            "included_tokens": 50_000_000,
            "price_of_more_tokens": {"usd": "0.5", "nano_usd": 500_000_000},
        },
        {
            "name": "team",
            "price": {"usd": "299", "nano_usd": 299 * 10**9},
            "included_tokens": 1_000_000_000,
            "price_of_more_tokens": {"usd": "0.3", "nano_usd": 300_000_000},
        },
    ]
    assert browser.press(account.page("checkout", plan="pro"), "pay") == 303
    bought = account.wait_for("active", "pro")
    assert bought["subscription"]["price"] == {"usd": "29", "nano_usd": 29 * 10**9}  # type: ignore[index]
    assert account.get("limits")["plan"] == "pro"
    assert account.post("checkout", plan="team").json()["error"]["code"] == "already_subscribed"
    assert account.post("plan", plan="team").status_code == 200
    account.wait_for("active", "team")
    (subscription,) = _subscriptions(running, account)
    browser.press(account.page("portal"), "cancel", subscription=subscription)
    account.wait_for("cancelling", "team")
    browser.press(account.page("portal"), "resume", subscription=subscription)
    account.wait_for("active", "team")
    browser.press(account.page("portal"), "cancel", subscription=subscription)
    account.wait_for("cancelling", "team")
    running.standin.admin("POST", "advance", seconds=32 * DAY)
    ended = account.wait_for("ended", "free")
    assert ended["grace_until"] is None
    # And begins again.
    assert browser.press(account.page("checkout", plan="pro"), "pay") == 303
    account.wait_for("active", "pro")


def test_what_is_sent_again_under_its_key_is_answered_as_it_was(running: Shop, browser: Browser) -> None:
    account = running.account()
    _sent_twice(account, "checkout", plan="pro")
    browser.press(account.page("checkout", plan="pro"), "pay")
    account.wait_for("active", "pro")
    _sent_twice(account, "plan", plan="team")
    _sent_twice(account, "portal")


def _sent_twice(account: Account, path: str, **sent: str) -> None:
    first, again = (account.post_under(path, path, **sent) for _ in range(2))
    assert first.is_success, first.text
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)


def _subscriptions(running: Shop, account: Account) -> list[str]:
    """Those of the account's that have not ended."""
    with psycopg.connect(running.env["DATABASE_URL"]) as database:
        found = database.execute(
            "SELECT s.id FROM stripe_subscriptions s JOIN api_keys k USING (account_id) WHERE k.prefix = %s"
            " AND NOT s.ended",
            [account.prefix],
        )
        return [row[0] for row in found]


def test_a_renewal_that_is_declined_is_waited_for_and_paying_it_brings_all_back(
    running: Shop, browser: Browser
) -> None:
    account = running.account()
    browser.press(account.page("checkout", plan="pro"), "pay", card="fails_later")
    account.wait_for("active", "pro")
    running.standin.admin("POST", "advance", seconds=32 * DAY)
    failed = account.wait_for("past_due", "pro")
    assert failed["grace_until"] is not None
    # Days go by, and nothing comes.
    with psycopg.connect(running.env["DATABASE_URL"], autocommit=True) as database:
        database.execute(
            "UPDATE stripe_invoices SET failed_at = failed_at - interval '3 days' WHERE failed_at IS NOT NULL"
        )
        database.execute("UPDATE accounts SET billing_due_at = now() WHERE billing_due_at IS NOT NULL")
    with process_settings(running.env):
        sweep.run()
    account.wait_for("unpaid", "free")
    portal = account.page("portal")
    browser.press(portal, "card_pays")
    for invoice in _open_invoices(running, account):
        browser.press(portal, "pay", invoice=invoice)
    account.wait_for("active", "pro")


def _open_invoices(running: Shop, account: Account) -> list[str]:
    with psycopg.connect(running.env["DATABASE_URL"]) as database:
        found = database.execute(
            "SELECT i.id FROM stripe_invoices i JOIN api_keys k USING (account_id) WHERE k.prefix = %s AND NOT i.ended",
            [account.prefix],
        )
        return [row[0] for row in found]


def test_nobody_can_pay_twice_for_one_account(running: Shop, browser: Browser) -> None:
    account = running.account()
    with ThreadPoolExecutor(4) as threads:
        pages = set(threads.map(lambda _: account.page("checkout", plan="pro"), range(4)))
    assert len(pages) == 1
    (first,) = pages
    assert account.page("checkout", plan="pro") == first
    other = account.page("checkout", plan="team")
    assert browser.press(first, "pay") == 410
    assert browser.press(other, "pay") == 303
    assert account.post("checkout", plan="pro").status_code == 409
    account.wait_for("active", "team")


def test_of_two_plans_begun_at_one_moment_one_can_be_paid(running: Shop, browser: Browser) -> None:
    account = running.account()
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda plan: account.post("checkout", plan=plan), ["pro", "team"]))
    assert all(
        answer.status_code == 201 or answer.json()["error"]["code"] == "checkout_in_progress" for answer in answers
    )
    pages = [answer.json()["url"] for answer in answers if answer.status_code == 201]
    assert sorted(browser.press(page, "pay") for page in pages) in ([303], [303, 410])


def test_a_page_of_a_customer_that_is_no_more_is_not_shown_again(running: Shop, browser: Browser) -> None:
    account = running.account()
    before = account.page("checkout", plan="pro")
    with psycopg.connect(running.env["DATABASE_URL"]) as database:
        (account_id,) = databases.one(database, "SELECT account_id FROM api_keys WHERE prefix = %s", account.prefix)
    with process_settings(running.env):
        billing.forget_customer(COMMAND_LINE, UUID(str(account_id)))
    now = account.page("checkout", plan="pro")
    assert now != before
    assert browser.press(before, "pay") == 410
    assert browser.press(now, "pay") == 303
    account.wait_for("active", "pro")


def test_a_plan_whose_difference_is_not_paid_stays_as_it_was(running: Shop, browser: Browser) -> None:
    account = running.account()
    browser.press(account.page("checkout", plan="pro"), "pay", card="fails_later")
    account.wait_for("active", "pro")
    refused = account.post("plan", plan="team")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "stripe_refused")
    assert account.get("billing")["plan"] == "pro"


def test_while_a_payment_is_missing_the_plan_cannot_be_changed(running: Shop, browser: Browser) -> None:
    account = running.account()
    browser.press(account.page("checkout", plan="team"), "pay", card="fails_later")
    account.wait_for("active", "team")
    running.standin.admin("POST", "advance", seconds=32 * DAY)
    account.wait_for("past_due", "team")
    # The smaller plan would credit what was never paid, and that would count as the payment.
    refused = account.post("plan", plan="pro")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "payment_missing")
    portal = account.page("portal")
    browser.press(portal, "card_pays")
    for invoice in _open_invoices(running, account):
        browser.press(portal, "pay", invoice=invoice)
    account.wait_for("active", "team")
    assert account.post("plan", plan="pro").status_code == 200
    account.wait_for("active", "pro")


def test_what_stripe_does_and_does_not_answer_is_not_done_twice(running: Shop) -> None:
    account = running.account()
    before = len(told_by(running.standin, "customers?limit=100")["data"])
    running.standin.admin("PUT", "settings", faults=[{"fault": "drop_after", "path": "/v1/c"}])
    try:
        answer = account.post("checkout", plan="pro")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stripe_away")
    finally:
        running.standin.admin("PUT", "settings", faults=[])
    page = account.page("checkout", plan="pro")
    assert account.page("checkout", plan="pro") == page
    assert len(told_by(running.standin, "customers?limit=100")["data"]) == before + 1


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/checkout/sessions"])
def test_an_error_of_stripes_own_is_not_repeated_to_an_account_for_a_day(
    path: str, running: Shop, browser: Browser
) -> None:
    account = running.account()
    running.standin.admin("PUT", "settings", faults=[{"fault": "error_after", "path": path}])
    try:
        assert account.post("checkout", plan="pro").json()["error"]["code"] == "stripe_away"
    finally:
        running.standin.admin("PUT", "settings", faults=[])
    assert browser.press(account.page("checkout", plan="pro"), "pay") == 303
    account.wait_for("active", "pro")


@pytest.mark.parametrize("path", ["checkout", "plan"])
def test_a_plan_that_is_not_sold_is_refused(path: str, running: Shop) -> None:
    account = running.account()
    for plan in ("free", "platinum", ""):
        assert account.post(path, plan=plan).json()["error"]["param"] == "plan"


def test_only_a_subscription_has_a_plan_to_change(running: Shop) -> None:
    assert running.account().post("plan", plan="pro").json()["error"]["code"] == "not_subscribed"
