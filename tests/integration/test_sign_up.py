"""Signing up: a link to the address opens the account, and nobody learns from the answers who has one."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from common import accounts, guesses, invitations
from common.audit import COMMAND_LINE
from common.errors import RateLimited
from common.plans import OWN_FILE
from tests.databases import one
from tests.people import PASSWORD, Visitor, mailed, shown, signed_up, token_of
from tests.process_settings import process_settings
from tests.web_client import WebClient, own_logging, refused

EMAIL = "ada@example.org"


def test_from_sign_up_to_a_key_with_nothing_but_the_mailed_link(web: WebClient, database: psycopg.Connection) -> None:
    ada = Visitor(web.app, " Ada@Example.ORG ")
    assert shown(ada.sign_up("Analytical Engines"), 202) == {"object": "auth.mailed", "email": " Ada@Example.ORG "}
    shown(ada.post("/auth/verify-email", {"token": token_of(database, EMAIL, "verify_email")}))
    me = shown(ada.log_in().get("/auth/me"))
    assert me["email"] == EMAIL
    assert me["email_verified"]
    assert me["role"] == "owner"
    (account,) = shown(ada.get("/auth/accounts"))["data"]
    assert (account["id"], account["name"], account["chosen"]) == (me["account_id"], "Analytical Engines", True)
    key = shown(ada.post("/v1/api_keys", {"name": "first", "scopes": ["jobs", "usage"]}), 201)["key"]
    limits = web.using(key).get("/v1/limits").get_json()
    assert limits["plan"] == "free"
    assert shown(ada.get("/v1/limits"))["tokens"] == limits["tokens"]


def test_nobody_logs_in_before_the_address_is_proven_and_another_link_is_mailed(
    web: WebClient, database: psycopg.Connection
) -> None:
    ada = Visitor(web.app, EMAIL)
    ada.sign_up()
    early = ada.post("/auth/log-in", {"email": EMAIL, "password": PASSWORD})
    assert refused(early, 401)["code"] == "invalid_login"
    assert [template for template, _ in mailed(database, EMAIL)] == ["verify_email"] * 2
    assert one(database, "SELECT count(*) FROM accounts WHERE name <> 'Ann'") == (0,)
    wrong = ada.post("/auth/log-in", {"email": EMAIL, "password": "another one here"})
    assert wrong.get_json() == early.get_json()


def test_who_signs_up_with_an_address_learns_nowhere_whether_it_is_a_users(
    web: WebClient, database: psycopg.Connection
) -> None:
    signed_up(web.app, EMAIL)
    learnt = []
    for email in (EMAIL, "nobody@example.org"):
        eve = Visitor(web.app, email, "203.0.113.5")
        said = [eve.sign_up("Eve's", "eve's own password")]
        said += [eve.post("/auth/log-in", {"email": email, "password": "eve's own password"}) for _ in range(3)]
        said += [eve.post("/auth/password/forgot", {"email": email}) for _ in range(2)]
        learnt.append([(answer.status_code, answer.text.replace(email, "it")) for answer in said])
        # As many mails may be asked for as before: what a log-in has mailed is not seen by this either.
        for _ in range(guesses.MAILS_TO_EMAIL - 1):
            guesses.of_mail("192.0.2.7", email)
        with pytest.raises(RateLimited):
            guesses.of_mail("192.0.2.7", email)
    assert learnt[0] == learnt[1]
    assert [template for template, _ in mailed(database, "nobody@example.org")].count("verify_email") == 4


def test_an_address_that_is_known_is_answered_as_any_other_and_its_owner_is_told(
    web: WebClient, database: psycopg.Connection
) -> None:
    ada = signed_up(web.app, EMAIL)
    known = Visitor(web.app, EMAIL).sign_up("Mine", "quite another one")
    new = Visitor(web.app, "bob@example.org").sign_up("Mine", "quite another one")
    assert known.status_code == new.status_code == 202
    assert known.get_json() == new.get_json() | {"email": EMAIL}
    assert set(known.headers.keys()) == set(new.headers.keys())
    assert mailed(database, EMAIL)[-1][0] == "address_known"
    assert ada.logged_in()
    assert ada.again().log_in().logged_in()
    assert {account["name"] for account in shown(ada.get("/auth/accounts"))["data"]} == {f"Account of {EMAIL}"}


def test_signing_up_again_before_the_link_was_followed_leaves_only_the_last_one_good(
    web: WebClient, database: psycopg.Connection
) -> None:
    """Whoever has signed up with another's address has gained nothing by it."""
    stranger, ada = Visitor(web.app, EMAIL), Visitor(web.app, EMAIL)
    stranger.sign_up("Stranger's", "password of stranger")
    theirs = token_of(database, EMAIL, "verify_email")
    ada.sign_up("Ada's")
    assert refused(ada.post("/auth/verify-email", {"token": theirs}), 400)["code"] == "invalid_token"
    shown(ada.post("/auth/verify-email", {"token": token_of(database, EMAIL, "verify_email")}))
    refused(stranger.post("/auth/log-in", {"email": EMAIL, "password": "password of stranger"}), 401)
    assert [account["name"] for account in shown(ada.log_in().get("/auth/accounts"))["data"]] == ["Ada's"]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"email": "ada"}, "email"),
        ({"email": "ada@example.org\r\nBcc: all@example.org"}, "email"),
        ({"email": "a" * 300 + "@example.org"}, "email"),
        ({"email": "\ud800@example.org"}, "email"),
        ({"email": 1}, "email"),
        ({"password": "too short"}, "password"),
        ({"password": "x" * 1_025}, "password"),
        ({"password": "nine chars\0"}, "password"),
        ({"password": None}, "password"),
        ({"account_name": " "}, "account_name"),
        ({"account_name": "a\nb"}, "name"),
        ({"plan": "team"}, "plan"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name_and_nothing_is_mailed(
    web: WebClient, database: psycopg.Connection, wrong: dict[str, Any], param: str
) -> None:
    sent = {"email": EMAIL, "password": PASSWORD, "account_name": "Engines"} | wrong
    assert refused(Visitor(web.app, EMAIL).post("/auth/sign-up", sent), 400)["param"] == param
    assert one(database, "SELECT count(*) FROM mails") == (0,)
    assert one(database, "SELECT count(*) FROM users") == (0,)


def test_nothing_secret_is_kept_as_it_is_or_logged_or_written_down(
    web: WebClient, database: psycopg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    ada = Visitor(web.app, EMAIL)
    ada.sign_up()
    mail_token = token_of(database, EMAIL, "verify_email")
    shown(ada.post("/auth/verify-email", {"token": mail_token}))
    ada.log_in()
    secrets = [PASSWORD, ada.access_token, ada.refresh_token, mail_token]
    tables = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    for (table,) in tables:
        rows = str(database.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))).fetchall())
        assert not [secret for secret in secrets if secret in rows], table
    told = "".join(capfd.readouterr())
    assert not [secret for secret in secrets if secret in told]
    ((kept,),) = database.execute("SELECT password_hash FROM users").fetchall()
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_without_a_free_plan_people_come_in_by_invitations_alone(
    settings: dict[str, str], tmp_path: Path, database: psycopg.Connection
) -> None:
    # Imported here: the app reads its settings when it is loaded.
    from web.app import create_app

    plans_file = tmp_path / "plans.toml"
    text = OWN_FILE.read_text().replace("[free]", "[house]")
    plans_file.write_text(re.sub(r"(?m)^(price|overage_price|included_tokens) .*\n", "", text))
    with process_settings(settings | {"PLANS_FILE": str(plans_file)}), own_logging():
        account = accounts.create("House", "house")
        invitations.make(COMMAND_LINE, account.id, EMAIL, "owner", "The house")
        ada = Visitor(create_app(), EMAIL)
        assert refused(ada.sign_up(), 403)["code"] == "sign_up_closed"
        sent = {"token": token_of(database, EMAIL, "invitation"), "password": PASSWORD}
        ada.with_tokens(ada.post("/auth/invitations/sign-up", sent))
        assert shown(ada.get("/v1/limits"))["plan"] == "house"
