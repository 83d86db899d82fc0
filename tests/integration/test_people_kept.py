"""What is kept of people no longer than it is of use, and the operator's command line for them."""

import psycopg
import pytest

from common import accounts, users
from tests.databases import one
from tests.people import PASSWORD, Visitor, shown, signed_up, token_of
from tests.web_client import WebClient
from worker.people_retention import delete_what_is_over

ADA, BOB = "ada@example.org", "bob@example.org"


def test_what_is_over_is_deleted_and_nothing_that_is_of_use(web: WebClient, database: psycopg.Connection) -> None:
    ada = signed_up(web.app, ADA)
    for email in (BOB, "eve@example.org"):
        shown(ada.post("/auth/invitations", {"email": email, "role": "owner"}), 201)
        Visitor(web.app, f"new-{email}").sign_up()
    ada.again().log_in()
    database.execute(
        "UPDATE sessions SET created_at = now() - interval '31 days', expires_at = now()"
        " WHERE id = (SELECT min(id::text)::uuid FROM sessions)"
    )
    database.execute("UPDATE mailed_tokens SET expires_at = now() WHERE id IN (SELECT id FROM mailed_tokens LIMIT 1)")
    database.execute("UPDATE invitations SET expires_at = now() - interval '91 days' WHERE email = %s", [BOB])
    database.execute("UPDATE users SET created_at = now() - interval '31 days' WHERE email LIKE '%%bob%%'", [])
    database.execute("UPDATE users SET created_at = now() - interval '31 days' WHERE email = %s", [ADA])
    for _ in range(2):
        delete_what_is_over()
        counts = [one(database, query) for query in COUNTS]
        assert counts == [(1,), (1,), (3,), (1,), (2,)]


COUNTS = (
    "SELECT count(*) FROM sessions",
    "SELECT count(*) FROM refresh_tokens",
    "SELECT count(*) FROM mailed_tokens",
    "SELECT count(*) FROM invitations",
    "SELECT count(*) FROM users",
)


def test_an_operator_invites_the_first_owner_of_an_account_that_was_made_without_people(
    web: WebClient, database: psycopg.Connection
) -> None:
    account = accounts.create("Made by hand", "team").shown_id
    run = web.app.test_cli_runner().invoke
    assert BOB in run(args=["people", "invite", account, "Bob@Example.org"]).output
    bob = Visitor(web.app, BOB)
    sent = {"token": token_of(database, BOB, "invitation"), "password": PASSWORD}
    bob.with_tokens(bob.post("/auth/invitations/sign-up", sent))
    me = shown(bob.get("/auth/me"))
    assert (me["account_id"], me["role"]) == (account, "owner")
    assert shown(bob.get("/v1/limits"))["plan"] == "team"
    listed = run(args=["people", "list", account]).output
    assert listed == f"{me['id']}  owner      {BOB}\n"
    for wrong in (["invite", account, "bob"], ["invite", "acct_x", BOB], ["list", "acct_x"]):
        failed = run(args=["people", *wrong])
        assert failed.exit_code == 1
        assert failed.output.startswith("Error: ")


@pytest.mark.parametrize("email", ["ADA@EXAMPLE.ORG", " ada@example.org\n", "ÀDA@example.org"])
def test_an_address_is_one_however_it_is_written(settings: dict[str, str], email: str) -> None:
    assert users.normal(email) == users.normal(users.normal(email))
    assert users.normal(email) == users.normal(email.lower())


def test_the_doctor_names_an_account_of_people_without_an_owner(web: WebClient, database: psycopg.Connection) -> None:
    signed_up(web.app, ADA)
    accounts.create("Made by hand", "team")
    doctor = web.app.test_cli_runner().invoke
    assert "members" not in doctor(args=["doctor"]).output
    database.execute("UPDATE members SET role = 'billing'")
    ((account_id,),) = database.execute("SELECT account_id FROM members").fetchall()
    found = doctor(args=["doctor"])
    assert f"members: acct_{account_id.hex}: has 1 members, and no owner" in found.output
    assert found.exit_code == 1


def test_the_doctor_names_accounts_whose_plan_or_own_limits_the_plans_file_lacks(
    web: WebClient, database: psycopg.Connection
) -> None:
    first, second, limited, _ = (accounts.create(name, "pro") for name in ("Ann", "Bob", "Cyd", "Dan"))
    doctor = web.app.test_cli_runner().invoke
    assert doctor(args=["doctor"]).exit_code == 0
    database.execute("UPDATE accounts SET plan = 'gold' WHERE id IN (%s, %s)", [first.id, second.id])
    database.execute("UPDATE accounts SET overrides = '{\"max_colours\": 3}' WHERE id = %s", [limited.id])
    found = doctor(args=["doctor"])
    assert f"plans: {first.shown_id} and 1 more: There is no plan 'gold': choose one of " in found.output
    assert f"plans: {limited.shown_id}: 'max_colours' is no limit that an account may have" in found.output
    assert found.output.endswith(" 2 off\n")
    assert found.exit_code == 1
