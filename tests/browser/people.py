"""People at a browser, on their way into an account."""

from dataclasses import dataclass
from uuid import uuid4

from local.stack import Stack
from tests.browser import mails
from tests.browser.visit import Visit

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Somebody:
    """A person with an address of their own."""

    email: str
    password: str = PASSWORD


def somebody(name: str = "ada") -> Somebody:
    return Somebody(f"{name}-{uuid4().hex[:12]}@example.com")


def sign_up(visit: Visit, stack: Stack, account: str = "Ada's team", who: Somebody | None = None) -> Somebody:
    """Signs up, follows the mailed link, and logs in."""
    who = who or somebody()
    visit.go("/sign-up")
    visit.fill(email=who.email, password=who.password, name=account)
    visit.press("Sign up")
    visit.go(mails.link(stack, who.email, "Confirm your address"))
    visit.press("Confirm my address")
    log_in(visit, who)
    return who


def log_in(visit: Visit, who: Somebody) -> None:
    """At the page for it, wherever that leads on to."""
    visit.fill(email=who.email, password=who.password)
    visit.press("Log in")
