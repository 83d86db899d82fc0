"""From nothing to a paid plan and back, by a person at a browser with curl beside it."""

import json
import subprocess

import httpx2

from local.stack import Stack
from tests.browser import mails, people
from tests.browser.conftest import NewVisit
from tests.waiting import wait_for

MONTH_SECONDS = 32 * 86_400


def curl(stack: Stack, key: str) -> dict[str, object]:
    """One job, as the page shows how."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", f"{stack.base_url}/v1/jobs"]
    headers = [f"Authorization: Bearer {key}", "Content-Type: application/json", "Prefer: wait=30"]
    body = json.dumps({"model": "gpt-4o-mini", "prompt": "Say hello."})
    options = [part for header in headers for part in ("-H", header)]
    done = subprocess.run([*command, *options, "-d", body], capture_output=True, text=True, timeout=90, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_somebody_signs_up_runs_a_job_pays_sees_it_and_cancels(site: Stack, new_visit: NewVisit) -> None:
    visit = new_visit()
    who = people.somebody()

    visit.go("/")
    visit.screenshot("01-welcome")
    visit.follow("Sign up")
    visit.fill(email=who.email, password=who.password, name="Ada's team")
    visit.screenshot("02-sign-up")
    visit.press("Sign up")
    assert visit.title == "Look into your mail"
    visit.screenshot("03-mail-sent")
    visit.go(mails.link(site, who.email, "Confirm your address"))
    visit.screenshot("04-confirm")
    visit.press("Confirm my address")
    people.log_in(visit, who)
    assert visit.says("Ada's team")
    visit.screenshot("05-overview")

    visit.follow("API keys")
    visit.fill(name="first")
    visit.press("Make the key")
    key = visit.main.locator("code.key").inner_text()
    visit.screenshot("06-key")
    visit.follow("API keys")
    assert key not in visit.page.content()
    job = curl(site, key)
    assert job["status"] == "completed"

    visit.follow("Plan and billing")
    assert visit.figure("Plan") == "free"
    free_tokens = visit.figure("Tokens a month, at most")
    visit.screenshot("07-free")
    visit.press("Choose pro")
    assert visit.page.url.startswith(site.env["STRIPE_URL"])
    visit.screenshot("08-checkout")
    visit.press("Pay")
    assert visit.path == "/account/billing"
    wait_for(lambda: visit.reload().figure("Plan"), lambda plan: plan == "pro")
    assert visit.figure("Tokens a month, at most") != free_tokens
    assert visit.figure("Price").startswith("$29.00")
    visit.screenshot("09-pro")

    assert curl(site, key)["status"] == "completed"
    visit.follow("Usage")
    assert visit.figure("Requests") == "2"
    assert visit.says("gpt-4o-mini")
    visit.screenshot("10-usage")

    visit.follow("Plan and billing")
    visit.press("Invoices, card and cancelling")
    visit.screenshot("11-portal")
    visit.press("Cancel plan")
    assert visit.says("Your plan was cancelled.")
    visit.screenshot("12-cancelled")
    visit.follow("Return to Batchyard")
    wait_for(lambda: visit.reload().says("Your plan pro ends on"), bool)
    assert visit.figure("Plan") == "pro"
    visit.screenshot("13-ends")

    with httpx2.Client(base_url=site.env["STRIPE_URL"], trust_env=False, timeout=60) as stripe:
        assert stripe.post("/_standin/advance", json={"seconds": MONTH_SECONDS}).status_code == 200
    wait_for(lambda: visit.reload().figure("Plan"), lambda plan: plan == "free")
    assert visit.figure("Tokens a month, at most") == free_tokens
    visit.screenshot("14-free-again")
    # What was there stays: the key, and what it used.
    assert curl(site, key)["status"] == "completed"
