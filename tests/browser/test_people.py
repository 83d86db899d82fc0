"""What people do at the pages besides: forgetting, inviting, moving, and working the keyboard."""

from local.stack import Stack
from tests.browser import mails, people
from tests.browser.conftest import NewVisit
from tests.browser.people import Somebody
from tests.browser.visit import Visit


def sections(visit: Visit) -> list[str]:
    return visit.page.locator("nav a").all_inner_texts()


def test_a_forgotten_password_is_replaced_and_its_sessions_are_over(site: Stack, new_visit: NewVisit) -> None:
    elsewhere, visit = new_visit(), new_visit()
    who = people.sign_up(elsewhere, site)
    visit.go("/log-in")
    visit.follow("Forgotten your password?")
    visit.fill(email=who.email)
    visit.press("Mail me a link")
    link = mails.link(site, who.email, "Reset your password")
    visit.go(link)
    visit.fill(password="short")
    visit.press("Set the password")
    assert visit.says("A password has 10 to 1,024 characters.")
    visit.fill(password="another four odd words")
    visit.press("Set the password")
    assert visit.path == "/account"
    assert visit.says("Your password is the new one, and you are logged in.")
    elsewhere.go("/account/keys")
    assert elsewhere.path == "/log-in"
    people.log_in(elsewhere, who)
    assert elsewhere.says("The address or the password is wrong")
    people.log_in(elsewhere, Somebody(who.email, "another four odd words"))
    assert elsewhere.path == "/account/keys"
    visit.go(link)
    visit.fill(password="a third four odd words")
    visit.press("Set the password")
    assert visit.title == "This link does not work"


def test_who_is_invited_sees_what_their_role_may_and_works_in_either_account(site: Stack, new_visit: NewVisit) -> None:
    owner, new, known = new_visit(), new_visit(), new_visit()
    people.sign_up(owner, site, "Engines")
    stranger, guest = people.somebody("new"), people.sign_up(known, site, "Looms")
    for invited, role in ((stranger, "billing"), (guest, "developer")):
        owner.go("/account/members")
        owner.fill(email=invited.email)
        owner.page.select_option("#role", role)
        owner.press("Invite")

    new.go(mails.link(site, stranger.email, "You are invited to an account"))
    new.fill(password=stranger.password)
    new.press("Join")
    assert new.says("You are in the account.")
    assert sections(new) == ["Overview", "Usage", "Plan and billing", "Settings"]
    new.go("/account/keys")
    assert new.title == "You may not do this"

    known.go(mails.link(site, guest.email, "You are invited to an account"))
    known.press("Join")
    assert sections(known) == ["Overview", "API keys", "Usage", "Settings"]
    known.follow("Settings")
    known.page.select_option("#account_id", label="Looms")
    known.press("Change over")
    assert "Members" in sections(known)

    owner.go("/account/members")
    row = owner.main.locator("li").filter(has_text=stranger.email)
    row.locator("summary").click()
    with owner.page.expect_navigation():
        row.get_by_role("button", name="Remove from the account").click()
    assert owner.says(f"{stranger.email} is no longer in the account.")
    new.go("/account")
    assert new.says("You are in no account.")


def test_a_key_is_revoked_and_an_address_changed_and_sessions_end(site: Stack, new_visit: NewVisit) -> None:
    visit, elsewhere = new_visit(), new_visit()
    who = people.sign_up(visit, site)
    visit.follow("API keys")
    visit.fill(name="old")
    visit.press("Make the key")
    visit.main.locator("summary").click()
    visit.press("Revoke this key")
    assert visit.says("The key “old” is revoked.")
    assert visit.main.locator("summary").count() == 0

    elsewhere.go("/log-in")
    people.log_in(elsewhere, who)
    moved = people.somebody("moved")
    visit.follow("Settings")
    visit.follow("Change the email")
    visit.fill(email=moved.email, password=who.password)
    visit.press("Change the email")
    visit.go(mails.link(site, moved.email, "Confirm your new address"))
    visit.press("Use this address")
    assert visit.path == "/account/settings"
    assert visit.says(moved.email)

    with visit.page.expect_navigation():
        visit.main.get_by_role("button", name="End it").click()
    elsewhere.go("/account")
    assert elsewhere.path == "/log-in"
    visit.press("Log out everywhere")
    assert visit.says("You are logged out everywhere.")
    people.log_in(visit, moved)
    assert visit.path == "/account"


def test_a_keyboard_is_enough(site: Stack, new_visit: NewVisit) -> None:
    visit = new_visit()
    who = people.sign_up(visit, site)
    visit.press("Log out")
    visit.go("/log-in")
    keyboard = visit.page.keyboard
    keyboard.press("Tab")
    assert visit.focused() == "Skip to the page"
    with visit.page.expect_event("framenavigated"):
        keyboard.press("Enter")
    keyboard.press("Tab")
    keyboard.type(who.email)
    keyboard.press("Tab")
    keyboard.type(who.password)
    with visit.page.expect_navigation():
        keyboard.press("Enter")
    assert visit.path == "/account"
    for section in sections(visit):
        visit.tab_to(section)
    visit.tab_to("Overview")
    visit.tab_to("API keys")
    with visit.page.expect_navigation():
        keyboard.press("Enter")
    assert visit.path == "/account/keys"
