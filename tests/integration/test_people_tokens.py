"""Tokens that are forged, over, used, of another purpose or account, or older than the password open nothing."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from werkzeug.test import TestResponse

from common import access_tokens, mailed_tokens
from common.mailed_tokens import LIFE, Purpose
from tests.databases import one
from tests.people import PASSWORD, Visitor, joined, shown, signed_up, token_of
from tests.web_client import WebClient, refused

ADA, BOB = "ada@example.org", "bob@example.org"
NEW = "quite another password"

PURPOSES: tuple[Purpose, ...] = ("verify-email", "reset-password", "change-email", "invitation")


def use(visitor: Visitor, purpose: Purpose, token: str) -> TestResponse:
    """Sends a token to where it would be good."""
    match purpose:
        case "verify-email":
            return visitor.post("/auth/verify-email", {"token": token})
        case "reset-password":
            return visitor.post("/auth/password/reset", {"token": token, "password": NEW})
        case "change-email":
            return visitor.post("/auth/email/confirm", {"token": token})
        case "invitation":
            return visitor.post("/auth/invitations/sign-up", {"token": token, "password": NEW})


class Mailbox:
    """Has each kind of token mailed: to somebody new each time, so that no limit is in the way."""

    def __init__(self, web: WebClient, database: psycopg.Connection) -> None:
        self.app, self.database = web.app, database
        self.stranger = Visitor(web.app, "stranger@example.org")
        self.users = 0

    def token(self, purpose: Purpose) -> str:
        self.users += 1
        email, address = f"user{self.users}@example.org", f"192.0.2.{self.users}"
        if purpose == "verify-email":
            Visitor(self.app, email, address).sign_up()
            return token_of(self.database, email, "verify_email")
        user = signed_up(self.app, email, address)
        other = f"other-{email}"
        match purpose:
            case "reset-password":
                user.post("/auth/password/forgot", {"email": email})
                return token_of(self.database, email, "reset_password")
            case "change-email":
                shown(user.post("/auth/email", {"password": PASSWORD, "email": other}), 202)
                return token_of(self.database, other, "email_change")
            case _:
                shown(user.post("/auth/invitations", {"email": other, "role": "developer"}), 201)
                return token_of(self.database, other, "invitation")


@pytest.fixture
def mailbox(web: WebClient, database: psycopg.Connection) -> Mailbox:
    return Mailbox(web, database)


def assert_refused(response: TestResponse) -> None:
    assert refused(response, 400)["code"] == "invalid_token"


class Earlier(TimestampSigner):
    """Signs as if it were so many seconds ago."""

    seconds = 0

    def get_timestamp(self) -> int:
        return int(time.time()) - self.seconds


def aged(serializer: URLSafeTimedSerializer, said: Any, seconds: int) -> str:
    """What the serializer would have signed then."""
    signer = type("Then", (Earlier,), {"seconds": seconds})
    then = URLSafeTimedSerializer(
        serializer.secret_keys, salt=serializer.salt, signer=signer, signer_kwargs=serializer.signer_kwargs
    )
    return str(then.dumps(said))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_mailed_token_is_good_once(mailbox: Mailbox, purpose: Purpose) -> None:
    token = mailbox.token(purpose)
    shown(use(mailbox.stranger, purpose, token))
    assert_refused(use(mailbox.stranger, purpose, token))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_mailed_token_of_one_purpose_is_none_of_another(mailbox: Mailbox, purpose: Purpose) -> None:
    token = mailbox.token(purpose)
    for other in PURPOSES:
        if other != purpose:
            assert_refused(use(mailbox.stranger, other, token))
    refused(mailbox.stranger.again().with_access(token).get("/auth/me"), 401)
    refused(mailbox.stranger.refresh(token), 401)
    shown(use(mailbox.stranger, purpose, token))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_forged_mailed_token_is_refused_wherever_it_is_changed(mailbox: Mailbox, purpose: Purpose) -> None:
    token = mailbox.token(purpose)
    payload, stamp, signature = token.rsplit(".", 2)
    later = aged(mailed_tokens._serializer(purpose), [], 0).rsplit(".", 2)[1]
    forged = [
        f"{payload}.{stamp}.{signature[:-2]}AA",
        f"{payload}.{stamp}.",
        f"{payload}.{later}x.{signature}",
        f"{payload[:-1]}{'A' if payload[-1] != 'A' else 'B'}.{stamp}.{signature}",
        f".{payload}.{stamp}.{signature}",
        payload,
        token + "\0",
        token.replace(".", "\uff0e"),
        "x" * 2_000,
        ".",
    ]
    for wrong in forged:
        assert_refused(use(mailbox.stranger, purpose, wrong))
    for no_text in ("\ud800", "", "x" * 2_001, None, 1):
        refused(use(mailbox.stranger, purpose, no_text), 400)  # type: ignore[arg-type]
    # Signed under the key of another installation.
    said = mailed_tokens._serializer(purpose).loads(token)
    other = URLSafeTimedSerializer(
        "x" * 40, salt=f"mailed:{purpose}", signer_kwargs=mailed_tokens._serializer(purpose).signer_kwargs
    )
    assert_refused(use(mailbox.stranger, purpose, str(other.dumps(said))))
    shown(use(mailbox.stranger, purpose, token))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_mailed_token_is_over_in_time_by_its_own_clock_and_by_the_databases(
    mailbox: Mailbox, database: psycopg.Connection, purpose: Purpose
) -> None:
    token = mailbox.token(purpose)
    serializer = mailed_tokens._serializer(purpose)
    seconds = int(LIFE[purpose].total_seconds())
    assert_refused(use(mailbox.stranger, purpose, aged(serializer, serializer.loads(token), seconds + 2)))
    database.execute("UPDATE mailed_tokens SET expires_at = now()")
    database.execute("UPDATE invitations SET expires_at = now()")
    assert_refused(use(mailbox.stranger, purpose, token))


@pytest.mark.parametrize("purpose", ["reset-password", "change-email"])
def test_a_link_is_no_longer_good_once_the_password_was_changed(
    web: WebClient, database: psycopg.Connection, purpose: Purpose
) -> None:
    ada = signed_up(web.app, ADA)
    ada.post("/auth/password/forgot", {"email": ADA})
    ada.post("/auth/email", {"password": PASSWORD, "email": BOB})
    tokens = {
        "reset-password": token_of(database, ADA, "reset_password"),
        "change-email": token_of(database, BOB, "email_change"),
    }
    ada.with_tokens(ada.post("/auth/password", {"password": PASSWORD, "new_password": NEW}))
    assert_refused(use(ada, purpose, tokens[purpose]))
    assert shown(ada.get("/auth/me"))["email"] == ADA


def test_a_link_to_reset_the_password_is_no_longer_good_once_the_address_was_changed(
    web: WebClient, database: psycopg.Connection
) -> None:
    """Whoever has the old address's mail has nothing."""
    ada = signed_up(web.app, ADA)
    ada.post("/auth/password/forgot", {"email": ADA})
    ada.post("/auth/email", {"password": PASSWORD, "email": BOB})
    shown(use(ada, "change-email", token_of(database, BOB, "email_change")))
    assert_refused(use(ada, "reset-password", token_of(database, ADA, "reset_password")))
    assert ada.logged_in()


def test_an_invitation_says_its_account_itself_and_is_none_to_another(
    web: WebClient, database: psycopg.Connection
) -> None:
    ada, eve = (signed_up(web.app, email) for email in (ADA, "eve@example.org"))
    bob = joined(web.app, ada, BOB, "developer")
    shown(eve.post("/auth/invitations", {"email": BOB, "role": "owner"}), 201)
    theirs = token_of(database, BOB, "invitation")
    # It is Bob's, and nobody else's.
    assert refused(ada.post("/auth/invitations/accept", {"token": theirs}), 403)["code"] == "other_address"
    assert (
        shown(bob.post("/auth/invitations/offered", {"token": theirs}))["account_name"] == "Account of eve@example.org"
    )
    before = bob.again()
    bob.with_tokens(bob.post("/auth/invitations/accept", {"token": theirs}))
    assert shown(bob.get("/auth/me"))["account_id"] == shown(eve.get("/auth/me"))["account_id"]
    # The access token of the account before does nothing in this one.
    refused(before.get("/auth/me"), 401)


SAID: dict[str, Callable[[Any, Any], list[Any]]] = {
    "another session": lambda mine, theirs: [theirs[0], mine[1]],
    "another account": lambda mine, theirs: [mine[0], theirs[1]],
    "no account": lambda mine, theirs: [mine[0], None],
    "no session": lambda mine, theirs: [uuid4().hex, mine[1]],
}


@pytest.mark.parametrize("swapped", SAID)
def test_an_access_token_names_its_session_and_its_account_and_is_good_for_no_other(
    web: WebClient, database: psycopg.Connection, swapped: str
) -> None:
    """Even signed as it should be."""
    ada, bob = (signed_up(web.app, email) for email in (ADA, BOB))
    serializer = access_tokens._serializer()
    mine, theirs = (serializer.loads(visitor.access_token.removeprefix("at_")) for visitor in (ada, bob))
    token = access_tokens.PREFIX + str(serializer.dumps(SAID[swapped](mine, theirs)))
    for path in ("/auth/me", "/v1/limits"):
        assert refused(ada.again().with_access(token).get(path), 401)["code"] == "invalid_access_token"


def test_an_access_token_is_over_after_a_quarter_of_an_hour(web: WebClient, database: psycopg.Connection) -> None:
    ada = signed_up(web.app, ADA)
    serializer = access_tokens._serializer()
    said = serializer.loads(ada.access_token.removeprefix("at_"))
    young, old = (access_tokens.PREFIX + aged(serializer, said, seconds) for seconds in (890, 902))
    assert ada.again().with_access(young).logged_in()
    assert not ada.again().with_access(old).logged_in()
    assert shown(ada.get("/v1/limits"))["plan"] == "free"


def test_a_forged_access_token_is_refused_whatever_it_is(web: WebClient, database: psycopg.Connection) -> None:
    ada = signed_up(web.app, ADA)
    token = ada.access_token
    payload, stamp, _ = token.rsplit(".", 2)
    for wrong in (
        token[:-2],
        token[3:],
        f"at_{token}",
        f"{payload}.{stamp}.",
        "at_",
        "at_.",
        "at_" + "x" * 600,
        "at_ä",
    ):
        for path in ("/auth/me", "/v1/limits", "/v1/api_keys"):
            refused(ada.again().with_access(wrong).get(path), 401)


def test_a_refresh_token_is_good_once_and_one_that_comes_again_ends_the_session(
    web: WebClient, database: psycopg.Connection
) -> None:
    ada = signed_up(web.app, ADA)
    elsewhere = ada.again().log_in()
    first = ada.refresh_token
    ada.with_tokens(ada.refresh())
    assert ada.refresh_token != first
    assert ada.logged_in()
    thief = ada.again()
    assert refused(thief.refresh(first), 401)["code"] == "invalid_refresh_token"
    assert not ada.logged_in()
    refused(ada.refresh(), 401)
    assert elsewhere.logged_in()


def test_a_refresh_token_that_was_never_given_is_refused_and_ends_nothing(
    web: WebClient, database: psycopg.Connection
) -> None:
    ada = signed_up(web.app, ADA)
    for wrong in (
        "",
        "x",
        ada.access_token,
        ada.refresh_token[:-1],
        ada.refresh_token + "x",
        "\ud800",
        "\0",
        "x" * 9_999,
    ):
        refused(ada.again().refresh(wrong or "-"), 401)
    assert ada.logged_in()
    ada.with_tokens(ada.refresh())


def test_a_session_is_over_in_time_whatever_is_refreshed(web: WebClient, database: psycopg.Connection) -> None:
    ada = signed_up(web.app, ADA)
    before = one(database, "SELECT expires_at FROM sessions")
    ada.with_tokens(ada.refresh())
    assert one(database, "SELECT expires_at FROM sessions") == before
    database.execute("UPDATE sessions SET created_at = now() - interval '2 s', expires_at = now() - interval '1 s'")
    assert not ada.logged_in()
    refused(ada.refresh(), 401)
