"""People who come by the operator's identity provider: who they are here, and where their tokens are taken."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from werkzeug.test import TestResponse

from common import email_verification, invitations, mails, sessions, sign_up
from common.audit import COMMAND_LINE
from common.errors import AuthenticationFailed
from tests import receivers
from tests.identity_provider import EMAIL, OTHER_RSA_KEY, IdentityProvider
from tests.people import token_of
from tests.receivers import Receiver, status
from tests.web_client import WebClient, refused

PASSWORD = "correct horse battery"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receivers.running() as running:
        yield running


@pytest.fixture
def provider(receiver: Receiver) -> IdentityProvider:
    return IdentityProvider(receiver)


@pytest.fixture
def env(env: dict[str, str], provider: IdentityProvider) -> dict[str, str]:
    return env | provider.settings()


def me(web: WebClient, token: str, account: str | None = None) -> dict[str, Any]:
    headers = {"Batchyard-Account": account} if account is not None else {}
    found = web.using(token).request("GET", "/auth/me", headers)
    assert found.status_code == 200, found.text
    shown: dict[str, Any] = found.get_json()
    return shown


def accounts(web: WebClient, token: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = web.using(token).get("/auth/accounts").get_json()["data"]
    return found


def users(database: psycopg.Connection) -> int:
    row = database.execute("SELECT count(*) FROM users").fetchone()
    assert row is not None
    return int(row[0])


def with_password(database: psycopg.Connection, verified: bool) -> None:
    """Somebody signed up with the address and a password."""
    sign_up.sign_up(EMAIL, PASSWORD, "Acme", "10.0.0.1")
    if verified:
        row = database.execute("SELECT sealed FROM mails WHERE recipient = %s", [EMAIL]).fetchone()
        assert row is not None
        email_verification.verify(mails.unseal(row[0]).plain.split("token=")[1].split()[0])


def test_who_comes_for_the_first_time_has_an_account_and_is_the_same_ever_after(
    web: WebClient, database: psycopg.Connection, provider: IdentityProvider
) -> None:
    first = me(web, provider.token())
    assert (first["email"], first["email_verified"], first["role"]) == (EMAIL, True, "owner")
    assert [account["name"] for account in accounts(web, provider.token())] == [EMAIL]
    # Whatever the provider says of the address later.
    for changed in ({"email": "new@example.com"}, {"email_verified": False}, {"email": None}):
        assert me(web, provider.token(**changed)) == first
    assert me(web, provider.token(sub="person-2", email="eve@example.com"))["id"] != first["id"]
    assert users(database) == 2
    links = database.execute("SELECT details FROM audit_log WHERE action = 'identity.link'").fetchall()
    assert links == [({"issuer": provider.issuer},)] * 2


def test_a_key_made_with_it_runs_jobs_and_it_runs_none_itself(web: WebClient, provider: IdentityProvider) -> None:
    person = web.using(provider.token())
    made = person.post("/v1/api_keys", json={"name": "mine", "scopes": ["jobs"]})
    assert made.status_code == 201, made.text
    job = {"model": "sim", "prompt": "Hi"}
    assert web.using(made.get_json()["key"]).post("/v1/jobs", json=job).status_code == 202
    refused(person.post("/v1/jobs", json=job), 401)
    assert person.get("/v1/limits").get_json()["plan"] == "free"


def test_who_has_the_address_already_comes_in_to_what_they_have(
    web: WebClient, database: psycopg.Connection, provider: IdentityProvider
) -> None:
    with_password(database, verified=True)
    session = sessions.log_in(EMAIL, PASSWORD, "10.0.0.1", page=False)
    by_password = me(web, session.access_token)
    by_provider = me(web, provider.token())
    assert by_provider["id"] == by_password["id"]
    assert [account["name"] for account in accounts(web, provider.token())] == ["Acme"]
    assert users(database) == 1
    # And the password is as good as before.
    sessions.log_in(EMAIL, PASSWORD, "10.0.0.1")


def test_who_only_claimed_the_address_has_lost_it_to_who_has_it(
    web: WebClient, database: psycopg.Connection, provider: IdentityProvider
) -> None:
    with_password(database, verified=False)
    assert [account["name"] for account in accounts(web, provider.token())] == [EMAIL]
    with pytest.raises(AuthenticationFailed):
        sessions.log_in(EMAIL, PASSWORD, "10.0.0.1")
    assert users(database) == 1


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"email_verified": False}, "identity_email_unverified"),
        ({"email_verified": None}, "identity_email_unverified"),
        ({"email": None}, "identity_email_missing"),
        ({"email": "nobody"}, "identity_email_missing"),
    ],
)
def test_without_a_verified_address_nobody_comes_in_for_the_first_time(
    web: WebClient,
    database: psycopg.Connection,
    provider: IdentityProvider,
    known: bool,
    claims: dict[str, Any],
    code: str,
) -> None:
    if known:
        with_password(database, verified=True)
    error = refused(web.using(provider.token(**claims)).get("/auth/me"), 403)
    assert error["code"] == code
    assert users(database) == known
    assert database.execute("SELECT count(*) FROM identities").fetchone() == (0,)


def test_many_first_requests_at_once_make_one_user_and_one_account(
    web: WebClient, database: psycopg.Connection, provider: IdentityProvider
) -> None:
    tokens = [provider.token(jti=str(number)) for number in range(12)]
    # The same address by another identity of the provider's, too.
    tokens += [provider.token(sub="person-2", jti=str(number)) for number in range(4)]
    with ThreadPoolExecutor(len(tokens)) as threads:
        answers: list[TestResponse] = list(threads.map(lambda token: web.using(token).get("/auth/me"), tokens))
    assert [answer.status_code for answer in answers] == [200] * len(tokens)
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert users(database) == 1
    assert database.execute("SELECT count(*) FROM members").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM identities").fetchone() == (2,)


def test_somebody_in_several_accounts_says_which_one(
    web: WebClient, database: psycopg.Connection, provider: IdentityProvider
) -> None:
    mine = me(web, provider.token())["account_id"]
    user_id = database.execute("SELECT id FROM users").fetchone()
    assert user_id is not None
    account_id = web.caller.account_id
    database.execute(
        "INSERT INTO members (account_id, user_id, role) VALUES (%s, %s, 'billing')", [account_id, *user_id]
    )
    other = f"acct_{account_id.hex}"
    asked = {None: ("owner", mine), mine: ("owner", mine), other: ("billing", other)}
    for account, (role, working_in) in asked.items():
        found = me(web, provider.token(), account)
        assert (found["role"], found["account_id"]) == (role, working_in)
    person = web.using(provider.token())
    named = {"Batchyard-Account": other}
    assert person.request("GET", "/v1/usage", named).status_code == 200
    refused(person.request("GET", "/v1/api_keys", named), 403)
    for stranger in ("acct_" + "0" * 32, "acct_" + "f" * 32, "", "x", "\xff"):
        assert me(web, provider.token(), stranger)["account_id"] is None
        error = refused(person.request("GET", "/v1/usage", {"Batchyard-Account": stranger}), 403)
        assert error["code"] == "no_account"
    error = refused(person.post(f"/auth/accounts/{other}/choose"), 409)
    assert error["code"] == "no_session"
    # From the next request on.
    database.execute("UPDATE members SET removed_at = now() WHERE role = 'billing'")
    assert me(web, provider.token(), other)["account_id"] is None


def test_an_invitation_is_accepted_without_a_session(
    web: WebClient, database: psycopg.Connection, provider: IdentityProvider
) -> None:
    person = web.using(provider.token())
    me(web, provider.token())
    invitations.make(COMMAND_LINE, web.caller.account_id, EMAIL, "billing", "the operator")
    answer = person.post("/auth/invitations/accept", json={"token": token_of(database, EMAIL, "invitation")})
    assert (answer.status_code, answer.get_json()) == (200, {"object": "auth.done"})
    assert me(web, provider.token(), f"acct_{web.caller.account_id.hex}")["role"] == "billing"


def test_what_the_provider_did_not_sign_is_refused_as_a_wrong_key_is(
    web: WebClient, database: psycopg.Connection, provider: IdentityProvider
) -> None:
    me(web, provider.token())
    for token in (provider.token(OTHER_RSA_KEY), provider.token(aud="another"), provider.token() + "x"):
        for path in ("/auth/me", "/v1/usage"):
            error = refused(web.using(token).get(path), 401)
            assert error["code"] == "invalid_identity_token"
    assert refused(web.using(provider.token(exp=1)).get("/auth/me"), 401)["code"] == "identity_token_expired"


def test_while_the_provider_is_away_others_go_on(web: WebClient, provider: IdentityProvider) -> None:
    provider.receiver.at("/keys", status(500))
    error = refused(web.using(provider.token()).get("/auth/me"), 503)
    assert error["code"] == "identity_provider_unavailable"
    assert web.get("/v1/usage").status_code == 200


def test_a_provider_that_the_settings_do_not_name_is_nobodys(
    database: psycopg.Connection, web: WebClient, provider: IdentityProvider
) -> None:
    token = provider.token(iss="https://another.example.com")
    assert refused(web.using(token).get("/auth/me"), 401)["code"] == "invalid_identity_token"
    assert users(database) == 0
