"""Paying at the pages: what is declined, what fails later, and how it is put right."""

import httpx2

from local.stack import Stack
from tests.browser import people
from tests.browser.conftest import NewVisit
from tests.browser.visit import Visit
from tests.waiting import wait_for

MONTH_SECONDS = 32 * 86_400


def test_a_payment_that_fails_later_is_told_of_and_put_right(site: Stack, new_visit: NewVisit) -> None:
    visit = new_visit()
    people.sign_up(visit, site)
    visit.follow("Plan and billing")
    visit.press("Choose pro")
    visit.press("Decline")
    assert visit.says("Your card was declined.")
    visit.follow("Cancel and go back")
    assert visit.figure("Plan") == "free"

    visit.press("Choose pro")
    visit.page.get_by_label("Card that pays now and is declined later").check()
    visit.press("Pay")
    _wait_until_it_says(visit, "This is your plan.")
    assert visit.figure("Plan") == "pro"
    visit.press("Change to team")
    assert visit.says("Your card was declined.")
    visit.go("/account/billing")
    assert visit.figure("Plan") == "pro"

    with httpx2.Client(base_url=site.env["STRIPE_URL"], trust_env=False, timeout=60) as stripe:
        assert stripe.post("/_standin/advance", json={"seconds": MONTH_SECONDS}).status_code == 200
    _wait_until_it_says(visit, "A payment failed.")
    assert visit.figure("Plan") == "pro"
    assert visit.look("billing-payment-failed") == []

    visit.press("Invoices, card and cancelling")
    visit.press("Use a card that pays")
    with visit.page.expect_navigation():
        visit.main.get_by_role("button", name="Pay invoice").first.click()
    visit.follow("Return to Batchyard")
    wait_for(lambda: visit.reload().says("A payment failed."), lambda said: not said)
    visit.press("Change to team")
    wait_for(lambda: visit.reload().figure("Plan"), lambda plan: plan == "team")


def _wait_until_it_says(visit: Visit, text: str) -> None:
    wait_for(lambda: visit.reload().says(text), bool)
