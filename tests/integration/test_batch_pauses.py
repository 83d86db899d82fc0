"""A batch that its customer pauses: nothing new starts until its customer says so, whatever else comes and goes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args
from uuid import UUID

import psycopg
import pytest

from common import accounts, batches, ids, keys, pauses, queue
from common.audit import COMMAND_LINE
from common.keys import Caller
from tests import work
from tests.databases import one
from tests.exact import check_exact, check_quotas_are_sums
from tests.web_client import WebClient, refused
from worker import closing, ingest, leases, retrying, sweep
from worker.outcomes import record

MODEL = "gpt-4o-mini"


def act(web: WebClient, batch_id: UUID, verb: str) -> dict[str, Any]:
    answer = web.post(f"/v1/batches/{ids.show('batch_', batch_id)}/{verb}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.get_json()
    return shown


def refusal(web: WebClient, batch_id: UUID, verb: str) -> object:
    return refused(web.post(f"/v1/batches/{ids.show('batch_', batch_id)}/{verb}"), 409)["code"]


def state(database: psycopg.Connection, batch_id: UUID) -> tuple[object, ...]:
    return one(
        database, "SELECT state, paused_reason, pause_requested_at IS NOT NULL FROM batches WHERE id = %s", batch_id
    )


RUNNING = ("in_progress", None, False)
REQUESTED = ("paused", "requested", True)


def cap_account(of: Caller, nano_dollars: int | None) -> None:
    accounts.change(COMMAND_LINE, of.account_id, {"hard_cap": nano_dollars})


def spend(of: Caller) -> None:
    """A finished job of the account: COST nano-dollars."""
    job_id = work.single(of)
    taken = [claim for claim in work.all_claims() if claim.batch_id == job_id]
    record(work.outcomes(taken[0]))


def test_a_pause_begins_nothing_and_running_calls_are_recorded(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.bulk(web.caller, 9)
    (claim,) = work.take(rows=4)
    shown = act(web, batch_id, "pause")
    assert (shown["status"], shown["paused_reason"]) == ("paused", "requested")
    assert shown["pause_requested_at"] >= shown["created_at"]
    assert work.all_claims() == []
    assert leases.look([claim.key])[claim.key].paused
    record(work.outcomes(claim))
    assert web.batch(batch_id)["counts"]["succeeded"] == 4
    rows = web.get(f"/v1/batches/{shown['id']}/results", format="csv").text
    assert rows.count("succeeded") == 4

    queue.redis().flushdb()
    shown = act(web, batch_id, "resume")
    assert (shown["status"], shown["paused_reason"], shown["pause_requested_at"]) == ("in_progress", None, None)
    assert queue.waiting()["plan-pro"] == 1
    for claim in work.all_claims():
        record(work.outcomes(claim))
    assert web.batch(batch_id)["status"] == "completed"
    check_exact(web, database, batch_id)


def test_jobs_that_were_claimed_ahead_go_back_and_run_after_the_resume(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 6)
    (claim,) = work.take(rows=6)
    act(web, batch_id, "pause")
    record(work.outcomes(claim)[:2])
    leases.give_back([claim.key])
    assert work.all_claims() == []
    act(web, batch_id, "resume")
    for claim in work.all_claims():
        record(work.outcomes(claim))
    check_exact(web, database, batch_id)


def test_pausing_and_resuming_again_change_nothing(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.bulk(web.caller, 3)
    since = act(web, batch_id, "pause")["pause_requested_at"]
    when = one(database, "SELECT paused_at, pause_requested_at FROM batches")
    assert act(web, batch_id, "pause")["pause_requested_at"] == since
    assert one(database, "SELECT paused_at, pause_requested_at FROM batches") == when
    for _ in range(2):
        assert act(web, batch_id, "resume")["status"] == "in_progress"
    assert state(database, batch_id) == RUNNING


def test_under_an_idempotency_key_a_pause_is_done_once(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.bulk(web.caller, 3)
    path = f"/v1/batches/{ids.show('batch_', batch_id)}"
    first = web.post(f"{path}/pause", {"Idempotency-Key": "one"})
    act(web, batch_id, "resume")
    again = web.post(f"{path}/pause", {"Idempotency-Key": "one"})
    assert (again.status_code, again.get_json()) == (200, first.get_json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert state(database, batch_id) == RUNNING


def test_only_a_key_with_the_scope_may_pause(web: WebClient) -> None:
    batch_id = work.bulk(web.caller, 3)
    narrow = web.using(keys.create(web.caller.account_id, "narrow", ["jobs"]))
    for verb in ("pause", "resume"):
        answer = narrow.post(f"/v1/batches/{ids.show('batch_', batch_id)}/{verb}")
        assert refused(answer, 403)["code"] == "scope_missing"


def test_a_single_job_has_no_pause(web: WebClient) -> None:
    job_id = work.single(web.caller)
    refused(web.post(f"/v1/batches/{ids.show('batch_', job_id)}/pause"), 404)


def test_a_new_batch_is_shown_as_validating_however_soon_it_is_read(
    web: WebClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "enqueue_ingest", ingest.ingest)
    created = web.post("/v1/batches", json={"endpoint": "/v1/chat/completions", "requests": [work.request(0)]})
    assert (created.status_code, created.get_json()["status"]) == (200, "validating")
    assert one(database, "SELECT state FROM batches") == ("in_progress",)


def test_a_batch_that_is_validating_is_read_and_then_waits(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.upload(web.caller, b"text\nrow\nrow\n")
    shown = act(web, batch_id, "pause")
    assert (shown["status"], shown["paused_reason"]) == ("validating", None)
    assert shown["pause_requested_at"] is not None
    ingest.ingest(batch_id)
    assert state(database, batch_id) == REQUESTED
    assert work.all_claims() == []
    act(web, batch_id, "resume")
    assert sum(len(claim.jobs) for claim in work.all_claims()) == 2


def test_a_pause_of_a_batch_that_is_validating_can_be_taken_back(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.upload(web.caller, b"text\nrow\n")
    act(web, batch_id, "pause")
    assert act(web, batch_id, "resume")["pause_requested_at"] is None
    ingest.ingest(batch_id)
    assert state(database, batch_id) == RUNNING


@pytest.mark.parametrize("content", [b"text\n\n", b"text\n"])
def test_a_paused_batch_whose_input_is_bad_fails_as_any(
    web: WebClient, database: psycopg.Connection, content: bytes
) -> None:
    batch_id = work.upload(web.caller, content)
    act(web, batch_id, "pause")
    ingest.read(batch_id)
    assert state(database, batch_id) == ("failed", None, False)


def test_a_paused_batch_can_be_cancelled_and_still_expires(web: WebClient, database: psycopg.Connection) -> None:
    cancelled, expired, validating = (
        work.bulk(web.caller, 3),
        work.bulk(web.caller, 3),
        work.upload(web.caller, b"a\nb"),
    )
    for batch_id in (cancelled, expired, validating):
        act(web, batch_id, "pause")
    assert act(web, cancelled, "cancel")["status"] == "cancelling"
    database.execute("UPDATE batches SET expires_at = now() WHERE id = ANY(%s)", [[expired, validating]])
    sweep.run()
    assert state(database, expired) == ("expiring", None, False)
    for batch_id, verb in ((cancelled, "pause"), (cancelled, "resume"), (expired, "pause"), (expired, "resume")):
        assert refusal(web, batch_id, verb) == "batch_ending"
    for batch_id, end in ((cancelled, "cancelled"), (expired, "expired"), (validating, "expired")):
        closing.close(batch_id)
        assert state(database, batch_id) == (end, None, False)
        assert refusal(web, batch_id, "pause") == refusal(web, batch_id, "resume") == "batch_ended"


def test_a_batch_whose_last_row_ends_while_it_is_paused_is_complete(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 3)
    (claim,) = work.take()
    act(web, batch_id, "pause")
    record(work.outcomes(claim))
    assert state(database, batch_id) == ("completed", None, False)


def test_a_retry_can_be_paused_before_its_rows_are_pending(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.bulk(web.caller, 3)
    (claim,) = work.take()
    record(work.outcomes(claim, "failed"))
    act(web, batch_id, "retry")
    act(web, batch_id, "pause")
    assert state(database, batch_id) == REQUESTED
    retrying.retry(batch_id)
    assert state(database, batch_id) == REQUESTED
    check_quotas_are_sums(database)
    assert work.all_claims() == []
    act(web, batch_id, "resume")
    for claim in work.all_claims():
        record(work.outcomes(claim))
    check_exact(web, database, batch_id)


# With what else pauses.


def test_no_sweep_and_no_operator_resumes_what_its_customer_paused(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 3)
    act(web, batch_id, "pause")
    accounts.suspend(COMMAND_LINE, web.caller.account_id, "unpaid")
    sweep.run()
    accounts.resume(COMMAND_LINE, web.caller.account_id)
    cap_account(web.caller, 10**12)
    sweep.run()
    for reason in get_args(pauses.Reason):
        pauses.pause_account(web.caller.account_id, reason)
        pauses.resume_account(web.caller.account_id, reason)
    batches.set_max_cost(web.caller, ids.show("batch_", batch_id), None)
    assert state(database, batch_id) == REQUESTED


def test_what_an_account_s_cap_pauses_its_customer_cannot_resume(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.bulk(web.caller, 3)
    pauses.pause_account(web.caller.account_id, "spend_cap")
    assert refusal(web, batch_id, "resume") == "spend_cap_reached"
    shown = act(web, batch_id, "pause")
    assert (shown["paused_reason"], shown["pause_requested_at"] is None) == ("spend_cap", False)
    # The customer's pause is taken back, and the cap's stays.
    shown = act(web, batch_id, "resume")
    assert (shown["status"], shown["paused_reason"], shown["pause_requested_at"]) == ("paused", "spend_cap", None)
    sweep.run()
    assert state(database, batch_id) == RUNNING


@pytest.mark.parametrize("reason", ["spend_cap", "account_suspended"])
def test_a_cap_that_ends_leaves_the_customer_s_pause(
    web: WebClient, database: psycopg.Connection, reason: pauses.Reason
) -> None:
    batch_id = work.bulk(web.caller, 3)
    pauses.pause_account(web.caller.account_id, "spend_cap")
    act(web, batch_id, "pause")
    if reason == "account_suspended":
        accounts.suspend(COMMAND_LINE, web.caller.account_id, "unpaid")
        sweep.run()
        assert state(database, batch_id) == ("paused", "account_suspended", True)
        accounts.resume(COMMAND_LINE, web.caller.account_id)
    else:
        sweep.run()
    assert state(database, batch_id) == REQUESTED
    assert work.all_claims() == []
    act(web, batch_id, "resume")
    assert state(database, batch_id) == RUNNING


def test_a_resume_starts_nothing_of_an_account_that_came_to_its_cap_meanwhile(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 3)
    act(web, batch_id, "pause")
    spend(web.caller)
    cap_account(web.caller, work.COST)
    shown = act(web, batch_id, "resume")
    assert (shown["status"], shown["paused_reason"]) == ("paused", "spend_cap")
    assert refusal(web, batch_id, "resume") == "spend_cap_reached"
    cap_account(web.caller, None)
    sweep.run()
    assert state(database, batch_id) == RUNNING


def test_a_batch_at_its_own_cap_stays_paused_for_each_of_the_two_reasons(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 3, model=MODEL, max_cost=1)
    shown_id = ids.show("batch_", batch_id)
    (claim,) = work.take()
    record(work.outcomes(claim))
    work.take()
    assert state(database, batch_id) == ("paused", "max_cost", False)
    assert refusal(web, batch_id, "resume") == "max_cost_reached"
    act(web, batch_id, "pause")
    batches.set_max_cost(web.caller, shown_id, 10**12)
    assert state(database, batch_id) == REQUESTED
    batches.set_max_cost(web.caller, shown_id, 1)
    # Its cap is reached again, which nobody saw as nothing was claimed.
    assert act(web, batch_id, "resume")["paused_reason"] == "max_cost"
    batches.set_max_cost(web.caller, shown_id, None)
    assert state(database, batch_id) == RUNNING
    check_quotas_are_sums(database)


def test_no_row_is_claimed_twice_or_lost_while_its_batch_is_paused_and_resumed(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 200)
    taken: list[int] = []

    def claim(_: int) -> None:
        for _ in range(60):
            taken.extend(job.seq for claim in work.take(rows=2) for job in claim.jobs)

    def switch() -> None:
        for number in range(40):
            act(web, batch_id, ("pause", "resume")[number % 2])

    with ThreadPoolExecutor(3) as threads:
        for running in [*(threads.submit(claim, number) for number in range(2)), threads.submit(switch)]:
            running.result()
    act(web, batch_id, "resume")
    taken.extend(job.seq for claim in work.all_claims() for job in claim.jobs)
    assert sorted(taken) == list(range(200))
