"""Sessions: what a log-out, a change of the password and a removal end, they end everywhere and at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from flask import Response

from common import csrf, ids, passwords, sessions
from common.errors import AuthenticationFailed, PermissionDenied
from tests.databases import one
from tests.people import PASSWORD, Visitor, mailed, shown, signed_up, token_of
from tests.process_settings import process_settings
from tests.waiting import wait_for
from tests.web_client import WebClient, refused
from web.pages import cookies

EMAIL = "ada@example.org"
NEW = "quite another password"
WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO sessions%%'
"""


@pytest.fixture
def ada(web: WebClient, database: psycopg.Connection) -> Visitor:
    return signed_up(web.app, EMAIL)


def page_of(password: str = PASSWORD) -> str:
    """The cookie of a page's session."""
    return sessions.log_in(EMAIL, password, "192.0.2.7").token


def test_logging_out_ends_the_session_and_no_other(ada: Visitor) -> None:
    elsewhere, page = ada.again().log_in(), page_of()
    shown(ada.post("/auth/log-out"))
    assert not ada.logged_in()
    refused(ada.refresh(), 401)
    assert elsewhere.logged_in()
    assert sessions.of_page(page) is not None


def test_logging_out_everywhere_ends_every_session(ada: Visitor, database: psycopg.Connection) -> None:
    elsewhere, page = ada.again().log_in(), page_of()
    shown(elsewhere.post("/auth/log-out-everywhere"))
    assert not ada.logged_in()
    assert not elsewhere.logged_in()
    refused(ada.refresh(), 401)
    assert sessions.of_page(page) is None
    assert one(database, "SELECT count(*) FROM refresh_tokens") == (0,)


def test_a_new_password_ends_every_session_but_its_own_and_is_told_by_mail(
    ada: Visitor, database: psycopg.Connection
) -> None:
    elsewhere, page = ada.again().log_in(), page_of()
    before = ada.again()
    ada.with_tokens(ada.post("/auth/password", {"password": PASSWORD, "new_password": NEW}))
    assert ada.logged_in()
    assert not before.logged_in()
    assert not elsewhere.logged_in()
    refused(before.refresh(), 401)
    refused(elsewhere.refresh(), 401)
    assert sessions.of_page(page) is None
    assert mailed(database, EMAIL)[-1][0] == "password_changed"
    refused(ada.again().post("/auth/log-in", {"email": EMAIL, "password": PASSWORD}), 401)
    assert ada.again().log_in(NEW).logged_in()
    assert sessions.of_page(page_of(NEW)) is not None


def test_a_reset_ends_every_session_but_its_own(ada: Visitor, database: psycopg.Connection) -> None:
    before, page = ada.again(), page_of()
    shown(ada.post("/auth/password/forgot", {"email": EMAIL}), 202)
    sent = {"token": token_of(database, EMAIL, "reset_password"), "password": NEW}
    ada.with_tokens(ada.post("/auth/password/reset", sent))
    assert ada.logged_in()
    assert not before.logged_in()
    assert sessions.of_page(page) is None
    assert [template for template, _ in mailed(database, EMAIL)][-2:] == ["reset_password", "password_changed"]


def test_a_log_in_that_was_under_way_while_the_password_changed_begins_nothing(
    ada: Visitor, database: psycopg.Connection
) -> None:
    """The old password was right when it was compared."""
    with psycopg.connect(database.info.dsn, password=database.info.password) as other:
        other.execute("UPDATE users SET credentials_version = credentials_version + 1")
        failed = threading.Event()

        def log_in() -> None:
            with pytest.raises(AuthenticationFailed):
                sessions.log_in(EMAIL, PASSWORD, "192.0.2.7")
            failed.set()

        thread = threading.Thread(target=log_in)
        thread.start()
        wait_for(lambda: one(database, WAITING), lambda found: found == (1,))
        other.execute("DELETE FROM sessions")
    thread.join()
    assert failed.is_set()
    assert one(database, "SELECT count(*) FROM sessions") == (0,)


def test_of_requests_that_refresh_at_once_one_has_the_next_token_and_the_session_ends(ada: Visitor) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(lambda _: ada.again().refresh().status_code, range(8))]
    assert sorted(answers) == [200] + [401] * 7
    assert not ada.logged_in()


def test_of_two_changes_of_a_password_at_once_one_is_refused(ada: Visitor, database: psycopg.Connection) -> None:
    person = sessions.of_page(page_of())
    assert person is not None

    def change(new: str) -> bool:
        try:
            passwords.change(person, PASSWORD, new, "192.0.2.7")
        except PermissionDenied:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(change, [NEW, NEW + "!"])) == [False, True]
    assert one(database, "SELECT count(*) FROM sessions") == (1,)


def test_where_one_is_logged_in_is_listed_and_ended_one_by_one(ada: Visitor, web: WebClient) -> None:
    page = page_of()
    listed = shown(ada.get("/auth/sessions"))["data"]
    assert [(session["kind"], session["address"], session["current"]) for session in listed] == [
        ("page", "192.0.2.7", False),
        ("api", "192.0.2.1", True),
    ]
    shown(ada.request("DELETE", f"/auth/sessions/{listed[0]['id']}"))
    assert sessions.of_page(page) is None
    refused(ada.request("DELETE", f"/auth/sessions/{listed[0]['id']}"), 404)
    assert ada.logged_in()


def test_nobody_ends_or_sees_another_persons_session(
    ada: Visitor, web: WebClient, database: psycopg.Connection
) -> None:
    bob = signed_up(web.app, "bob@example.org")
    (session,) = shown(ada.get("/auth/sessions"))["data"]
    refused(bob.request("DELETE", f"/auth/sessions/{session['id']}"), 404)
    assert session not in shown(bob.get("/auth/sessions"))["data"]
    assert ada.logged_in()


def test_the_api_takes_no_cookie_and_no_key_for_people(ada: Visitor, web: WebClient) -> None:
    page = page_of()
    for name in (cookies.SESSION.plain_name, cookies.SESSION.secure_name):
        client = web.app.test_client()
        client.set_cookie(name, page)
        for path in ("/auth/me", "/v1/limits"):
            refused(client.get(path), 401)
    assert refused(web.get("/auth/me"), 401)["code"] == "missing_access_token"
    refused(ada.again().with_access(page).get("/auth/me"), 401)
    refused(ada.again().with_access(ada.refresh_token).get("/auth/me"), 401)


@pytest.mark.parametrize(
    ("public_url", "begins"),
    [("http://127.0.0.1:8000", "batchyard_session=secret;"), ("https://batches.example", "__Host-batchyard=secret;")],
)
def test_a_browser_keeps_the_cookie_from_scripts_and_from_other_sites(
    settings: dict[str, str], public_url: str, begins: str
) -> None:
    with process_settings(settings | {"PUBLIC_URL": public_url}):
        response = Response()
        cookies.SESSION.keep(response, "secret")
        cookies.SESSION.forget(response)
    kept, forgotten = response.headers.getlist("Set-Cookie")
    assert kept.startswith(begins)
    for cookie in (kept, forgotten):
        attributes = cookie.split("; ")[1:]
        assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(attributes)
        assert ("Secure" in attributes) == public_url.startswith("https:")
        assert not [attribute for attribute in attributes if attribute.startswith("Domain")]
    assert "Max-Age=0" in forgotten


def test_a_form_is_of_its_session_alone(settings: dict[str, str]) -> None:
    mine, theirs = ids.new_id(), ids.new_id()
    csrf.check(mine, csrf.token(mine))
    csrf.check("visitor", csrf.token("visitor"))
    for wrong in (None, "", csrf.token(theirs), csrf.token(mine.hex), csrf.token(mine)[:-1], "\ud800", "ä"):
        with pytest.raises(PermissionDenied):
            csrf.check(mine, wrong)
    token = csrf.token(mine)
    with process_settings(settings | {"SECRET_KEY": "x" * 40}):
        assert csrf.token(mine) != token


def test_a_session_of_a_person_who_left_every_account_goes_on_without_one(
    ada: Visitor, web: WebClient, database: psycopg.Connection
) -> None:
    database.execute("UPDATE members SET removed_at = now()")
    me = shown(ada.get("/auth/me"))
    assert (me["account_id"], me["role"], me["scopes"]) == (None, None, [])
    assert shown(ada.get("/auth/accounts"))["data"] == []
    for path in ("/v1/limits", "/v1/api_keys", "/auth/members", "/auth/invitations"):
        assert refused(ada.get(path), 403)["code"] == "no_account"
    assert ada.again().log_in().logged_in()


def test_people_of_a_suspended_account_see_that_it_is_and_do_nothing_in_it(
    ada: Visitor, database: psycopg.Connection
) -> None:
    database.execute("UPDATE accounts SET state = 'suspended'")
    assert shown(ada.get("/auth/me"))["suspended"]
    for path in ("/v1/limits", "/v1/api_keys", "/auth/invitations"):
        assert refused(ada.get(path), 403)["code"] == "account_suspended"
