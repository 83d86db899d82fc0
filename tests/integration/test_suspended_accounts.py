"""A suspended account: its keys are refused, nothing of it starts, and nothing of it is lost. And an account whose work
moves to another plan."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

from common import accounts, ids, keys, pauses, plan_moves, queue
from common.audit import COMMAND_LINE
from common.keys import Caller
from tests import work
from tests.databases import one
from tests.web_client import WebClient, refused
from worker import ingest, leases, sweep
from worker.outcomes import record


def suspend(of: Caller) -> None:
    accounts.suspend(COMMAND_LINE, of.account_id, "unpaid")


def resume(of: Caller) -> None:
    accounts.resume(COMMAND_LINE, of.account_id)


def states(database: psycopg.Connection, of: Caller) -> Sequence[tuple[Any, ...]]:
    query: LiteralString = "SELECT state, paused_reason FROM batches WHERE account_id = %s ORDER BY id"
    return database.execute(query, [of.account_id]).fetchall()


PAUSED = ("paused", "account_suspended")
RUNNING = ("in_progress", None)


def test_every_request_of_a_suspended_account_is_refused_and_told_why(web: WebClient) -> None:
    suspend(web.caller)
    for rule in web.app.url_map.iter_rules():
        if not rule.rule.startswith("/v1/"):
            continue
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", "x").replace(f"<path:{argument}>", "x")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            response = web.request(method, path)
            error = refused(response, 403)
            assert error["code"] == "account_suspended", rule
            assert response.headers["x-should-retry"] == "false"
    resume(web.caller)
    assert web.get("/v1/jobs").status_code == 200


def test_nothing_of_a_suspended_account_starts_and_all_of_it_goes_on_after(database: psycopg.Connection) -> None:
    ann, bob = work.caller(), work.caller()
    for of in (ann, bob):
        work.single(of)
        work.bulk(of, 3)
    suspend(ann)
    assert states(database, ann) == [PAUSED] * 2
    assert {claim.account_id for claim in work.all_claims()} == {bob.account_id}
    queue.redis().flushdb()
    resume(ann)
    assert states(database, ann) == [RUNNING] * 2
    assert queue.waiting()["plan-pro"] == 1
    claimed = [claim for claim in work.all_claims() if claim.account_id == ann.account_id]
    assert sum(len(claim.jobs) for claim in claimed) == 4


def test_calls_in_flight_end_and_are_recorded_while_their_account_is_suspended(
    database: psycopg.Connection,
) -> None:
    ann = work.caller()
    batch_id = work.bulk(ann, 3)
    (claim,) = work.take(rows=2)
    suspend(ann)
    record(work.outcomes(claim))
    counts = "SELECT state, succeeded, cursor FROM batches WHERE id = %s"
    assert one(database, counts, batch_id) == ("paused", 2, 2)
    resume(ann)
    (claim,) = work.take()
    record(work.outcomes(claim))
    assert one(database, counts, batch_id) == ("completed", 3, 3)


def test_rows_that_a_worker_lost_wait_with_their_suspended_account(database: psycopg.Connection) -> None:
    ann = work.caller()
    work.bulk(ann, 3)
    (claim,) = work.take(rows=2)
    suspend(ann)
    leases.give_back([claim.key])
    assert work.all_claims() == []
    resume(ann)
    assert sum(len(claim.jobs) for claim in work.all_claims()) == 3


def test_what_becomes_ready_behind_a_suspension_is_paused_by_the_sweep(database: psycopg.Connection) -> None:
    ann = work.caller()
    batch_id = work.upload(ann, b"text\nrow\n")
    suspend(ann)
    ingest.ingest(batch_id)
    # A request that was under way when its account was suspended.
    work.single(ann)
    sweep.run()
    assert states(database, ann) == [PAUSED] * 2
    assert work.all_claims() == []


@pytest.mark.parametrize("state", ["suspended", "active"])
def test_an_operator_who_dies_halfway_leaves_the_rest_to_the_sweep(
    database: psycopg.Connection, state: LiteralString
) -> None:
    ann = work.caller()
    work.bulk(ann, 3)
    if state == "active":
        suspend(ann)
    database.execute("UPDATE accounts SET state = %s WHERE id = %s", [state, ann.account_id])
    sweep.run()
    assert states(database, ann) == [PAUSED if state == "suspended" else RUNNING]


def test_a_batch_is_paused_for_one_reason_and_goes_on_when_that_is_gone(database: psycopg.Connection) -> None:
    ann = work.caller()
    work.bulk(ann, 3)
    pauses.pause_account(ann.account_id, "spend_cap")
    suspend(ann)
    resume(ann)
    assert states(database, ann) == [("paused", "spend_cap")]
    accounts.change(COMMAND_LINE, ann.account_id, {"hard_cap": 10**9})
    sweep.run()
    assert states(database, ann) == [RUNNING]


def test_a_cap_that_is_raised_wakes_nothing_of_a_suspended_account(database: psycopg.Connection) -> None:
    ann = work.caller()
    work.bulk(ann, 3)
    pauses.pause_account(ann.account_id, "spend_cap")
    since = one(database, "SELECT paused_at FROM batches")
    suspend(ann)
    accounts.change(COMMAND_LINE, ann.account_id, {"hard_cap": 10**9})
    sweep.run()
    assert states(database, ann) == [PAUSED]
    assert one(database, "SELECT paused_at FROM batches") == since
    resume(ann)
    assert states(database, ann) == [RUNNING]


def test_suspending_and_resuming_at_once_leave_one_of_the_two(database: psycopg.Connection) -> None:
    ann = work.caller()
    for _ in range(5):
        work.single(ann)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: (suspend, resume)[number % 2](ann), range(20)))
    sweep.run()
    state = one(database, "SELECT state FROM accounts WHERE id = %s", ann.account_id)
    assert states(database, ann) == [PAUSED if state == ("suspended",) else RUNNING] * 5


def test_a_suspended_account_is_listed_among_the_paused_with_its_reason(web: WebClient) -> None:
    operator = WebClient(scopes=keys.SCOPES)
    batch_id, job_id = work.bulk(web.caller, 3), work.single(web.caller)
    bob = work.caller()
    other = work.bulk(bob, 2)
    suspend(web.caller)
    pauses.pause_account(bob.account_id, "spend_cap")
    found = operator.get("/v1/admin/paused_batches").get_json()["data"]
    assert [batch["id"] for batch in found] == [ids.show("batch_", found_id) for found_id in (other, job_id, batch_id)]
    assert [batch["reason"] for batch in found] == ["spend_cap", "account_suspended", "account_suspended"]
    assert [batch["pending_rows"] for batch in found] == [2, 1, 3]
    assert all(batch["paused_at"] for batch in found)
    theirs = operator.get("/v1/admin/paused_batches", account_id=ids.show("acct_", web.caller.account_id), limit=1)
    page = theirs.get_json()
    assert [batch["id"] for batch in page["data"]] == [ids.show("batch_", job_id)]
    assert page["has_more"]


def test_open_batches_go_along_to_another_plan_and_ended_ones_stay(
    database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_moves, "BATCHES_PER_STEP", 2)
    ann = work.caller("free")
    work.single(ann)
    record([outcome for claim in work.all_claims(plan="free") for outcome in work.outcomes(claim)])
    for _ in range(4):
        work.single(ann)
    work.bulk(ann, 3)
    pauses.pause_account(ann.account_id, "spend_cap")
    work.upload(ann, b"text\nrow\n")
    work.single(ann)
    accounts.change(COMMAND_LINE, ann.account_id, {"plan": "team"})
    plans = database.execute("SELECT plan FROM batches WHERE account_id = %s ORDER BY id", [ann.account_id]).fetchall()
    assert plans == [("free",), *[("team",)] * 7]
    assert work.all_claims(plan="free") == []
    assert len(work.take("team")) == 1
    assert queue.waiting()["plan-team"] >= 1


def test_an_account_that_changes_its_plan_is_neither_last_nor_first_for_long(database: psycopg.Connection) -> None:
    ann, bob = work.caller("free"), work.caller("team")
    for of in (ann, bob):
        work.bulk(of, 40)
    # Free plans are weighed six times as heavily: there its virtual time is far ahead of the team's clock.
    for _ in range(4):
        work.take("free", 5)
        work.take("team", 1)
    accounts.change(COMMAND_LINE, ann.account_id, {"plan": "team"})
    served = [work.take("team", 5)[0].account_id for _ in range(6)]
    assert 2 <= served.count(ann.account_id) <= 4


def test_no_row_is_claimed_twice_or_lost_while_its_batch_moves_between_plans(database: psycopg.Connection) -> None:
    ann = work.caller("free")
    work.bulk(ann, 200)
    taken: list[tuple[UUID, int]] = []

    def claim(plan: str) -> None:
        for _ in range(60):
            taken.extend((claim.batch_id, job.seq) for claim in work.take(plan, 3) for job in claim.jobs)

    def move() -> None:
        for number in range(30):
            accounts.change(COMMAND_LINE, ann.account_id, {"plan": ("team", "pro", "free")[number % 3]})

    with ThreadPoolExecutor(4) as threads:
        for running in [*(threads.submit(claim, plan) for plan in ("free", "pro", "team")), threads.submit(move)]:
            running.result()
    for plan in ("free", "pro", "team"):
        taken += [(claim.batch_id, job.seq) for claim in work.all_claims(plan=plan) for job in claim.jobs]
    assert sorted(seq for _, seq in taken) == list(range(200))
