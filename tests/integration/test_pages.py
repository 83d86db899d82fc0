"""The pages' rules: who may see one, what every answer carries, and what another site cannot have anybody do."""

import re

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from werkzeug.wrappers import Response

from common import keys, members, roles, users
from common.database import as_owner
from common.roles import Role
from tests.browser import pages
from tests.page_visitor import PageVisitor
from tests.process_settings import process_settings
from tests.web_client import WebClient, refused
from web.pages import api_keys, billing
from web.pages import members as page_of_members
from web.pages.frame import SECTIONS

POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
}
ADDRESSES = {
    "pages.overview": "/account",
    "pages.keys": "/account/keys",
    "pages.usage": "/account/usage",
    "pages.billing": "/account/billing",
    "pages.members": "/account/members",
    "pages.account_settings": "/account/settings",
}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

# The others hash a password, which takes long, before they do anything; and two end the session.
NEEDS_NO_HASH = {
    "/forgotten-password",
    "/verify-email",
    "/confirm-email",
    "/accept-invitation",
    "/account/keys",
    "/account/keys/<key_id>/revoke",
    "/account/members/invitations",
    "/account/members/invitations/<invitation_id>/revoke",
    "/account/members/<user_id>/role",
    "/account/members/<user_id>/remove",
    "/account/billing/checkout",
    "/account/billing/plan",
    "/account/billing/portal",
    "/account/settings/account",
    "/account/settings/sessions/<session_id>/end",
}


@pytest.fixture
def visitor(web: WebClient) -> PageVisitor:
    return PageVisitor(web.app)


@pytest.fixture
def ada(visitor: PageVisitor, database: psycopg.Connection) -> PageVisitor:
    """The owner of an account."""
    return visitor.logged_in("ada@example.org")


def views(visitor: PageVisitor, method: str) -> list[str]:
    """The addresses of all pages that take a method."""
    rules = visitor.app.url_map.iter_rules()
    return [rule.rule for rule in rules if rule.endpoint.startswith("pages.") and method in (rule.methods or set())]


def test_every_page_that_there_is_is_looked_at_in_the_browser(visitor: PageVisitor) -> None:
    looked_at = {address.partition("?")[0] for address in (pages.OF_ANYBODY | pages.OF_AN_OWNER).values()}
    assert set(views(visitor, "GET")) == looked_at


def test_every_page_runs_no_script_is_framed_by_nobody_and_kept_nowhere(ada: PageVisitor) -> None:
    for address in (pages.OF_ANYBODY | pages.OF_AN_OWNER).values():
        found = ada.get(address)
        assert found.status_code in (200, 303, 400)
        assert POLICY - set(found.headers["Content-Security-Policy"].split("; ")) <= {"form-action 'self'"}
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert found.headers["Referrer-Policy"] == "same-origin"
        assert found.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script|\son\w+=|style=", found.text)


def test_what_is_of_people_sends_others_to_log_in_and_back(visitor: PageVisitor) -> None:
    for address in pages.OF_AN_OWNER.values():
        answer = visitor.get(address)
        assert answer.status_code == 303
        assert answer.location == f"/log-in?next={address}"


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_member_is_shown_what_their_role_may_see_and_nothing_else(ada: PageVisitor, role: Role) -> None:
    member = PageVisitor(ada.app).logged_in("bob@example.org", role=role, of=ada)
    shown = member.get("/account").text
    for section in SECTIONS:
        address = f"/account/{section.blueprint.removeprefix('pages.').replace('account_', '')}".removesuffix(
            "/overview"
        )
        allowed = section.scope is None or section.scope in roles.SCOPES[role]
        assert member.get(address).status_code == (200 if allowed else 403)
        assert (f'href="{address}"' in shown) == allowed


def test_logging_in_leads_on_to_our_own_pages_alone(ada: PageVisitor) -> None:
    for address in ("https://evil.example/", "//evil.example/", "/\\evil.example", "evil", "/a\nb", ""):
        assert ada.http.get("/log-in", query_string={"next": address}).location == "/account"
    assert ada.http.get("/log-in", query_string={"next": "/account/usage"}).location == "/account/usage"


def test_a_form_without_its_sessions_token_does_nothing(ada: PageVisitor) -> None:
    sent = {"name": "a key", "scopes": "jobs", "life": "never"}
    for token in ("", "0" * 64, "é", PageVisitor(ada.app).csrf("/log-in")):
        assert ada.http.post("/account/keys", data=sent | {"csrf": token}).status_code == 403
    assert "There is no key yet" in ada.get("/account/keys").text


def test_every_form_is_held_to_its_token(ada: PageVisitor) -> None:
    addresses = views(ada, "POST")
    assert len(addresses) > 15
    for address in addresses:
        assert ada.http.post(re.sub("<[^>]*>", "any", address), data={"plan": "pro"}).status_code == 403, address


def test_a_form_that_another_site_sends_does_nothing_whatever_it_carries(ada: PageVisitor) -> None:
    sent = {"csrf": ada.csrf("/account/keys"), "name": "a key", "scopes": "jobs", "life": "never"}
    for site in ("cross-site", "same-site"):
        assert ada.http.post("/account/keys", data=sent, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert "There is no key yet" in ada.get("/account/keys").text


def test_a_cookie_opens_no_api(ada: PageVisitor) -> None:
    refused(ada.get("/v1/api_keys"), 401)
    refused(ada.get("/auth/me"), 401)


def test_a_new_key_is_shown_once(ada: PageVisitor) -> None:
    answer = ada.send("/account/keys", name="nightly", scopes=["jobs"], life="30")
    assert (answer.status_code, answer.location) == (303, "/account/keys")
    found = re.search(r"by_\w+_[\w-]{43}", ada.get("/account/keys").text)
    assert found is not None
    assert found[0] not in ada.get("/account/keys").text


def test_long_lists_go_on_on_another_page(ada: PageVisitor) -> None:
    person = ada.person()
    for number in range(api_keys.PAGE_KEYS + 1):
        keys.issue(person.actor, person.working_in, f"Number {number}.", ["jobs"])
    with as_owner() as connection:
        for number in range(page_of_members.PAGE_MEMBERS):
            user = users.store_verified(connection, f"{number}@example.org", None)
            assert user is not None
            members.join(connection, person.working_in, user.id, "developer")
    # The newest first.
    for address, oldest in (("/account/keys", "<h3>Number 0."), ("/account/members", f"<h3>{person.email}")):
        first = ada.get(address)
        further = re.search(rf'href="({address}\?after=[a-z]+_[0-9a-f]+)"', first.text)
        assert further is not None
        last = ada.get(further[1])
        assert (oldest in first.text, oldest in last.text, "after=" in last.text) == (False, True, False)


def test_what_was_typed_stays_beside_what_is_wrong_with_it(visitor: PageVisitor) -> None:
    answer = visitor.send("/sign-up", email="ada<", password="a password that is long", name="Ada & Co")
    assert answer.status_code == 400
    assert 'value="ada&lt;"' in answer.text
    assert 'value="Ada &amp; Co"' in answer.text
    assert "a password that is long" not in answer.text
    assert re.search(r'id="email"[^>]*aria-describedby=" ?email-wrong" aria-invalid="true" autofocus', answer.text)


def test_an_owner_stays(ada: PageVisitor) -> None:
    answer = ada.send(f"/account/members/{ada.person().shown_id}/remove", "/account/members")
    assert answer.status_code == 409
    assert "keeps at least one owner" in answer.text
    assert ada.person().role == "owner"


def test_whoever_asks_with_a_browser_is_told_by_a_page_and_programs_by_json(visitor: PageVisitor) -> None:
    page = visitor.get("/nowhere", Accept=BROWSER)
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "Content-Security-Policy" in page.headers
    for address in ("/v1/nowhere", "/auth/nowhere"):
        refused(visitor.get(address, Accept=BROWSER), 404)
    refused(visitor.get("/nowhere"), 404)
    refused(visitor.get("/nowhere", Accept="application/json"), 404)


def test_a_cookie_that_is_not_ours_is_as_good_as_none(visitor: PageVisitor) -> None:
    http = visitor.app.test_client(use_cookies=False)
    for name in ("batchyard_session", "batchyard_visitor", "batchyard_note"):
        for value in ("", "x", "é", '"\\303\\251"', '"\\377"', "a" * 3_000):
            sent = f"{name}={value}".encode().decode("latin-1")
            assert http.get("/log-in", headers={"Cookie": sent}).status_code == 200, sent


def test_a_form_is_small_and_a_form(visitor: PageVisitor) -> None:
    token = visitor.csrf("/sign-up")
    large = visitor.http.post("/sign-up", data={"csrf": token, "email": "a" * 100_000})
    assert (large.status_code, large.mimetype) == (413, "text/html")
    json = visitor.http.post("/sign-up", json={"csrf": token})
    assert (json.status_code, json.mimetype) == (415, "text/html")


def test_over_https_browsers_use_nothing_else_and_keep_cookies_of_this_host_alone(
    visitor: PageVisitor, settings: dict[str, str]
) -> None:
    with process_settings(settings | {"PUBLIC_URL": "https://batches.example"}):
        answer = visitor.get("/log-in")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["Set-Cookie"].startswith("__Host-batchyard-visitor=")
    assert "Strict-Transport-Security" not in visitor.get("/log-in").headers


def test_where_the_policy_lets_no_form_lead_a_link_does(web: WebClient, settings: dict[str, str]) -> None:
    with web.app.test_request_context("/account/billing"):
        onward, redirected = (billing.lead_to(f"https://{host}/c/1") for host in ("pay.example", "checkout.stripe.com"))
    assert 'href="https://pay.example/c/1"' in str(onward)
    assert isinstance(redirected, Response)
    assert redirected.location == "https://checkout.stripe.com/c/1"


def test_log_out_ends_the_session_whatever_the_browser_keeps(ada: PageVisitor) -> None:
    cookie = ada.http.get_cookie("batchyard_session")
    assert cookie is not None
    assert ada.send("/log-out", "/account/settings").status_code == 303
    assert ada.http.get_cookie("batchyard_session") is None
    ada.http.set_cookie("batchyard_session", cookie.value)
    assert ada.get("/account").status_code == 303


# Characters that databases, headers, markup and templates may stumble over.
TYPED = st.text(st.characters(codec="utf-8") | st.sampled_from("\0\n<>'\"{}%&\ud7ff\uffff"), max_size=300)


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_typed_into_a_form_the_server_does_not_fail(ada: PageVisitor, data: st.DataObject) -> None:
    address = re.sub("<[^>]*>", "any", data.draw(st.sampled_from(sorted(NEEDS_NO_HASH & set(views(ada, "POST"))))))
    names = ("email", "name", "role", "plan", "token", "scopes", "life", "account_id", "next")
    typed = data.draw(st.dictionaries(st.sampled_from(names), TYPED))
    answer = ada.http.post(address, data=typed | {"csrf": ada.csrf("/account/settings")})
    assert answer.status_code < 500, (address, typed, answer.text)
