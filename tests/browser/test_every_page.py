"""Every page as it looks, in light and dark, on a phone and at a desk: nothing keeps anybody from using it."""

from local.stack import Stack
from tests.browser import mails, pages, people
from tests.browser.conftest import NewVisit
from tests.browser.visit import Visit
from tests.customer import Customer


def test_every_page_is_fit_for_everybody(site: Stack, new_visit: NewVisit) -> None:
    visit, problems = new_visit(), list[str]()
    for name, address in (pages.OF_ANYBODY | {"nowhere": "/nowhere"}).items():
        visit.go(address)
        problems += visit.look(name)
    visit.go("/sign-up")
    visit.fill(email="nobody")
    visit.press("Sign up")
    problems += visit.look("sign-up-refused")
    people.sign_up(visit, site, "Ada's team with a rather long name")
    problems += _of_an_account(visit, site)
    for name, address in pages.OF_AN_OWNER.items():
        visit.go(address)
        for summary in visit.main.locator("summary").all():
            summary.click()
        problems += visit.look(name)
    visit.press("Change the password")
    problems += visit.look("change-password-refused")
    assert problems == []


def _of_an_account(visit: Visit, site: Stack) -> list[str]:
    """Gives the account something to show; the problems of what is seen on the way alone."""
    visit.follow("API keys")
    visit.fill(name="a key whose name is as long as names are when people explain what they are for")
    visit.press("Make the key")
    problems = visit.look("keys-made")
    key = visit.main.locator("code.key").inner_text()
    with Customer(site.base_url, key) as customer:
        customer.submit({"model": "gpt-4o-mini", "prompt": "Say hello."}, wait=30)
    guest = people.somebody("guest")
    visit.follow("Members")
    visit.fill(email=guest.email)
    visit.press("Invite")
    problems += visit.look("members-invited")
    visit.go(mails.link(site, guest.email, "You are invited to an account"))
    return problems + visit.look("invited")
