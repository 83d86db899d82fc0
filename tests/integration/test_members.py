"""Members and invitations: who is in an account, in which role, and that it keeps an owner whatever comes at once."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from common import invitations, members, sessions
from common.errors import BatchyardError, Conflict
from tests.databases import one
from tests.people import PASSWORD, Visitor, joined, mailed, shown, signed_up, token_of
from tests.web_client import WebClient, refused

ADA, BOB, EVE = "ada@example.org", "bob@example.org", "eve@example.org"


@pytest.fixture
def ada(web: WebClient, database: psycopg.Connection) -> Visitor:
    return signed_up(web.app, ADA)


def user_id(visitor: Visitor) -> str:
    return str(shown(visitor.get("/auth/me"))["id"])


def roles(visitor: Visitor) -> dict[str, str]:
    return {member["email"]: member["role"] for member in shown(visitor.get("/auth/members"))["data"]}


def invited(web: WebClient, ada: Visitor, database: psycopg.Connection) -> Visitor:
    """Bob, a developer in Ada's account by her invitation."""
    shown(ada.post("/auth/invitations", {"email": BOB, "role": "developer"}), 201)
    bob = Visitor(web.app, BOB)
    sent = {"token": token_of(database, BOB, "invitation"), "password": PASSWORD}
    return bob.with_tokens(bob.post("/auth/invitations/sign-up", sent))


def test_who_is_invited_joins_in_the_role_that_was_said(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    shown(ada.post("/auth/invitations", {"email": BOB.upper(), "role": "developer"}), 201)
    token = token_of(database, BOB, "invitation")
    bob = Visitor(web.app, BOB)
    offer = shown(bob.post("/auth/invitations/offered", {"token": token}))
    assert offer == {
        "object": "auth.offer",
        "account_name": f"Account of {ADA}",
        "email": BOB,
        "role": "developer",
        "known": False,
    }
    ((_, text),) = mailed(database, BOB)
    assert ADA in text
    bob.with_tokens(bob.post("/auth/invitations/sign-up", {"token": token, "password": PASSWORD}))
    me = shown(bob.get("/auth/me"))
    assert (me["email_verified"], me["role"]) == (True, "developer")
    assert me["account_id"] == shown(ada.get("/auth/me"))["account_id"]
    assert roles(bob) == {ADA: "owner", BOB: "developer"}
    (invitation,) = shown(ada.get("/auth/invitations"))["data"]
    assert invitation["status"] == "accepted"


def test_a_user_accepts_logged_in_and_then_works_in_both_accounts(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    bob = signed_up(web.app, BOB)
    own = shown(bob.get("/auth/me"))["account_id"]
    shown(ada.post("/auth/invitations", {"email": BOB, "role": "billing"}), 201)
    token = token_of(database, BOB, "invitation")
    assert shown(bob.post("/auth/invitations/offered", {"token": token}))["known"]
    answer = bob.post("/auth/invitations/sign-up", {"token": token, "password": "quite another one"})
    assert refused(answer, 409)["code"] == "address_known"
    bob.with_tokens(bob.post("/auth/invitations/accept", {"token": token}))
    assert shown(bob.get("/auth/me"))["role"] == "billing"
    assert refused(bob.get("/v1/api_keys"), 403)["code"] == "scope_missing"
    there = bob.again()
    bob.with_tokens(bob.post(f"/auth/accounts/{own}/choose"))
    assert shown(bob.get("/auth/me"))["role"] == "owner"
    assert shown(bob.get("/v1/api_keys"))["data"] == []
    # The session is one, and so is the account that is chosen in it.
    assert not there.logged_in()
    refused(bob.post("/auth/accounts/acct_00000000000000000000000000000000/choose"), 404)
    refused(bob.post("/auth/accounts/x/choose"), 404)


def test_nobody_chooses_an_account_that_they_are_not_in(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    bob = signed_up(web.app, BOB)
    theirs = shown(ada.get("/auth/me"))["account_id"]
    refused(bob.post(f"/auth/accounts/{theirs}/choose"), 404)
    invited = joined(web.app, ada, EVE, "developer")
    shown(ada.request("DELETE", f"/auth/members/{user_id(invited)}"))
    refused(invited.post(f"/auth/accounts/{theirs}/choose"), 404)


def test_another_role_and_a_removal_hold_from_the_next_request_on(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    bob = joined(web.app, ada, BOB, "developer")
    key = shown(bob.post("/v1/api_keys", {"name": "bob's", "scopes": ["jobs"]}), 201)["key"]
    path = f"/auth/members/{user_id(bob)}"
    assert shown(ada.request("PATCH", path, {"role": "billing"}))["role"] == "billing"
    assert refused(bob.get("/v1/api_keys"), 403)["code"] == "scope_missing"
    assert shown(bob.get("/v1/limits"))["plan"] == "free"
    shown(ada.request("DELETE", path))
    assert refused(bob.get("/v1/limits"), 403)["code"] == "no_account"
    refused(ada.request("DELETE", path), 404)
    refused(ada.request("PATCH", path, {"role": "owner"}), 404)
    # The key is the account's.
    assert web.using(key).get("/v1/jobs").status_code == 200
    shown(ada.post("/auth/invitations", {"email": BOB, "role": "owner"}), 201)
    bob.with_tokens(bob.post("/auth/invitations/accept", {"token": token_of(database, BOB, "invitation")}))
    assert roles(bob) == {ADA: "owner", BOB: "owner"}


def test_only_owners_say_who_is_in_an_account_and_anybody_may_leave(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    for member in (joined(web.app, ada, BOB, "developer"), joined(web.app, ada, EVE, "billing")):
        own, owners = f"/auth/members/{user_id(member)}", f"/auth/members/{user_id(ada)}"
        assert refused(member.request("PATCH", own, {"role": "owner"}), 403)["code"] == "scope_missing"
        assert refused(member.request("DELETE", owners), 403)["code"] == "scope_missing"
        for method, sent in (("GET", None), ("POST", {"email": "x@example.org", "role": "owner"})):
            assert refused(member.request(method, "/auth/invitations", sent), 403)["code"] == "scope_missing"
        shown(member.request("DELETE", own))
    assert roles(ada) == {ADA: "owner"}


def test_an_account_keeps_an_owner(web: WebClient, ada: Visitor, database: psycopg.Connection) -> None:
    own = f"/auth/members/{user_id(ada)}"
    joined(web.app, ada, BOB, "developer")
    assert refused(ada.request("DELETE", own), 409)["code"] == "last_owner"
    assert refused(ada.request("PATCH", own, {"role": "billing"}), 409)["code"] == "last_owner"
    assert shown(ada.request("PATCH", own, {"role": "owner"}))["role"] == "owner"


def test_of_two_owners_who_remove_each_other_at_once_one_stays(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    bob = joined(web.app, ada, BOB, "owner")
    people = [sessions.of_access_token(visitor.access_token) for visitor in (ada, bob)]
    for number in range(10):
        database.execute("UPDATE members SET removed_at = NULL, role = 'owner'")

        def remove(at: int, number: int = number) -> bool:
            actor, account = people[at].actor, people[at].working_in
            try:
                if number % 2:
                    members.remove(actor, account, people[1 - at].shown_id)
                else:
                    members.set_role(actor, account, people[1 - at].shown_id, "billing")
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(remove, [0, 1])) == [False, True]
        assert one(database, "SELECT count(*) FROM members WHERE role = 'owner' AND removed_at IS NULL") == (1,)


def test_an_invitation_is_good_for_one_and_of_those_to_an_address_the_newest(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    tokens = []
    for role in ("owner", "billing"):
        shown(ada.post("/auth/invitations", {"email": BOB, "role": role}), 201)
        tokens.append(token_of(database, BOB, "invitation"))
    bob = Visitor(web.app, BOB)
    refused(bob.post("/auth/invitations/offered", {"token": tokens[0]}), 400)
    refused(bob.post("/auth/invitations/sign-up", {"token": tokens[0], "password": PASSWORD}), 400)

    def accept(_: int) -> bool:
        try:
            invitations.accept_as_new(tokens[1], PASSWORD, "192.0.2.7")
        except BatchyardError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(accept, range(4))) == [False] * 3 + [True]
    assert roles(ada) == {ADA: "owner", BOB: "billing"}


def test_a_revoked_invitation_is_no_longer_good(web: WebClient, ada: Visitor, database: psycopg.Connection) -> None:
    made = shown(ada.post("/auth/invitations", {"email": BOB, "role": "owner"}), 201)
    path = f"/auth/invitations/{made['id']}"
    for _ in range(2):
        assert shown(ada.request("DELETE", path))["status"] == "revoked"
    sent = {"token": token_of(database, BOB, "invitation"), "password": PASSWORD}
    refused(Visitor(web.app, BOB).post("/auth/invitations/sign-up", sent), 400)
    shown(invited(web, ada, database).get("/auth/me"))
    listed = shown(ada.get("/auth/invitations"))["data"]
    assert [invitation["status"] for invitation in listed] == ["accepted", "revoked"]
    refused(ada.request("DELETE", f"/auth/invitations/{listed[0]['id']}"), 409)
    answer = ada.post("/auth/invitations", {"email": BOB, "role": "owner"})
    assert refused(answer, 409)["code"] == "is_member"


def test_of_another_account_nobody_sees_or_changes_a_member_or_an_invitation(
    web: WebClient, ada: Visitor, database: psycopg.Connection
) -> None:
    made = shown(ada.post("/auth/invitations", {"email": BOB, "role": "owner"}), 201)
    eve = signed_up(web.app, EVE)
    refused(eve.request("DELETE", f"/auth/invitations/{made['id']}"), 404)
    refused(eve.request("DELETE", f"/auth/members/{user_id(ada)}"), 404)
    refused(eve.request("PATCH", f"/auth/members/{user_id(ada)}", {"role": "billing"}), 404)
    assert roles(eve) == {EVE: "owner"}
    assert shown(eve.get("/auth/invitations"))["data"] == []


@pytest.mark.parametrize(
    "wrong", [{"role": "admin"}, {"role": None}, {"email": "bob"}, {"email": "a@b\r\n.c"}, {"x": 1}]
)
def test_an_invitation_that_cannot_be_is_refused(
    ada: Visitor, database: psycopg.Connection, wrong: dict[str, object]
) -> None:
    refused(ada.post("/auth/invitations", {"email": BOB, "role": "owner"} | wrong), 400)
    assert one(database, "SELECT count(*) FROM invitations") == (0,)


def test_what_members_do_stands_in_the_audit_log(web: WebClient, ada: Visitor, database: psycopg.Connection) -> None:
    bob = invited(web, ada, database)
    shown(ada.request("PATCH", f"/auth/members/{user_id(bob)}", {"role": "billing"}))
    shown(ada.request("DELETE", f"/auth/members/{user_id(bob)}"))
    acts = database.execute("SELECT action, actor FROM audit_log WHERE actor LIKE 'user_%' ORDER BY created_at, id")
    owner, developer = user_id(ada), user_id(bob)
    assert acts.fetchall() == [
        ("account.create", owner),
        ("invitation.create", owner),
        ("invitation.accept", developer),
        ("member.role", owner),
        ("member.remove", owner),
    ]
