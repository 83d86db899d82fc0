"""Recording outcomes: each once, by whoever holds the claim, with counters that are sums."""

import asyncio
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from tests import work
from tests.databases import one
from tests.exact import check_counters_are_sums
from tests.work import take
from worker import closing, leases
from worker.claims import Claim
from worker.outcomes import Outcome, record
from worker.recorder import Recorder

pytestmark = pytest.mark.usefixtures("settings")


def claimed(rows: int) -> Claim:
    work.bulk(work.caller(), rows)
    (claim,) = take(rows=rows)
    return claim


def count(database: psycopg.Connection, table: LiteralString) -> int:
    found = one(database, "SELECT count(*) FROM " + table)[0]
    assert isinstance(found, int)
    return found


def test_an_outcome_becomes_a_result_and_a_receipt_and_the_last_ends_the_batch(database: psycopg.Connection) -> None:
    claim = claimed(2)
    record([work.outcome(claim, 0)])
    assert one(database, "SELECT state, succeeded FROM batches") == ("in_progress", 1)
    assert one(database, "SELECT pending FROM claims") == (1,)
    record([work.outcome(claim, 1, "failed")])
    assert one(database, "SELECT state, succeeded, failed FROM batches WHERE ended_at IS NOT NULL") == (
        "completed", 1, 1,
    )  # fmt: skip
    assert count(database, "claims") == 0
    results = database.execute(
        "SELECT seq, outcome, status_code, body, error_code FROM results ORDER BY seq"
    ).fetchall()
    assert results == [(0, "succeeded", 200, b'{"choices": []}', None), (1, "failed", 400, b"no", "bad")]
    receipt: LiteralString = "SELECT seq, prompt_tokens, cached_tokens, completion_tokens, cost FROM usage_records"
    assert one(database, receipt) == (0, 1_000, 400, 50, work.COST)
    check_counters_are_sums(database)


def test_recording_twice_writes_once(database: psycopg.Connection) -> None:
    claim = claimed(5)
    for outcomes in (work.outcomes(claim)[:3], work.outcomes(claim)[:3], work.outcomes(claim), work.outcomes(claim)):
        record(outcomes)
    assert count(database, "results") == count(database, "usage_records") == 5
    assert one(database, "SELECT state, succeeded, cost FROM batches") == ("completed", 5, 5 * work.COST)
    check_counters_are_sums(database)


def test_a_row_that_is_in_a_group_twice_is_written_once(database: psycopg.Connection) -> None:
    claim = claimed(2)
    record([work.outcome(claim, 0), work.outcome(claim, 0, "failed"), work.outcome(claim, 0)])
    assert one(database, "SELECT succeeded + failed, state FROM batches") == (1, "in_progress")
    assert one(database, "SELECT pending FROM claims") == (1,)
    check_counters_are_sums(database)


def test_a_stale_worker_can_write_nothing(database: psycopg.Connection) -> None:
    claim = claimed(3)
    leases.give_back([(claim.id, claim.fence)])
    record(work.outcomes(claim))
    assert count(database, "results") == 0, "the claim was given back"
    (again,) = take(worker="worker B")
    record(work.outcomes(claim, "failed"))
    assert count(database, "results") == 0, "another worker has the claim"
    record(work.outcomes(again))
    record(work.outcomes(claim, "failed"))
    assert one(database, "SELECT state, succeeded, failed FROM batches") == ("completed", 3, 0)
    assert count(database, "usage_records") == 3
    check_counters_are_sums(database)


def test_a_stale_outcome_is_dropped_beside_a_fresh_one_of_the_same_claim(database: psycopg.Connection) -> None:
    claim = claimed(2)
    leases.give_back([(claim.id, claim.fence)])
    (again,) = take()
    record([work.outcome(claim, 0, "failed"), work.outcome(again, 1)])
    assert database.execute("SELECT seq, outcome FROM results").fetchall() == [(1, "succeeded")]
    record([work.outcome(again, 0), work.outcome(claim, 0, "failed")])
    assert one(database, "SELECT state, succeeded, failed FROM batches") == ("completed", 2, 0)
    check_counters_are_sums(database)


def test_outcomes_recorded_by_several_threads_at_once_are_each_written_once(database: psycopg.Connection) -> None:
    callers = [work.caller() for _ in range(2)]
    for caller in callers:
        work.bulk(caller, 60)
    taken = [claim for _ in range(12) for claim in take(rows=10)]
    every = [outcome for claim in taken for outcome in work.outcomes(claim)]
    assert len(every) == 120

    def shuffled(seed: int) -> None:
        outcomes = every[:]
        random.Random(seed).shuffle(outcomes)
        for start in range(0, 120, 15):
            record(outcomes[start : start + 15])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(shuffled, range(4)))
    assert count(database, "results") == count(database, "usage_records") == 120
    assert count(database, "claims") == 0
    assert database.execute("SELECT state, succeeded FROM batches").fetchall() == [("completed", 60)] * 2
    check_counters_are_sums(database)


def test_counters_are_the_sums_of_results_and_receipts_whatever_the_outcomes(database: psycopg.Connection) -> None:
    chance = random.Random(7)
    callers = [work.caller() for _ in range(3)]
    for caller in callers:
        work.bulk(caller, 40)
        work.single(caller)
    while taken := take(rows=9):
        for claim in taken:
            outcomes = [
                work.outcome(
                    claim,
                    job.seq,
                    kind := chance.choice(["succeeded", "succeeded", "failed"]),
                    **({"price": chance.choice([work.PRICE, None])} if kind == "succeeded" else {}),
                )
                for job in claim.jobs
            ]
            lost = chance.random() < 0.3
            record(outcomes[:4] if lost else outcomes)
            check_counters_are_sums(database)
            if lost:
                leases.give_back([(claim.id, claim.fence)])
    assert {state for (state,) in database.execute("SELECT DISTINCT state FROM batches")} == {"completed"}
    assert count(database, "results") == 123
    assert count(database, "claims") == 0


def test_a_group_is_written_whole_or_not_at_all(database: psycopg.Connection) -> None:
    claim = claimed(3)
    group = [work.outcome(claim, 0), work.outcome(claim, 1, "failed", error_message="a\0b"), work.outcome(claim, 2)]
    with pytest.raises((DBAPIError, ValueError)):
        record(group)
    assert count(database, "results") == count(database, "usage_records") == 0
    assert one(database, "SELECT pending FROM claims") == (3,)
    check_counters_are_sums(database)


def test_an_outcome_that_cannot_be_stored_becomes_a_failure_and_holds_up_no_other(
    database: psycopg.Connection,
) -> None:
    claim = claimed(3)
    group = [work.outcome(claim, 0), work.outcome(claim, 1, "failed", error_message="a\0b"), work.outcome(claim, 2)]
    told: list[Outcome] = []

    async def write() -> None:
        def settle(recorded: Sequence[Outcome]) -> None:
            told.extend(recorded)

        recorder = Recorder(lambda: False, settle)
        for outcome in group:
            recorder.add(outcome)
        await recorder.finish()

    asyncio.run(write())
    assert sorted(outcome.seq for outcome in told) == [0, 1, 2]
    assert database.execute("SELECT seq, outcome, error_code FROM results ORDER BY seq").fetchall() == [
        (0, "succeeded", None),
        (1, "failed", "unrecordable_answer"),
        (2, "succeeded", None),
    ]
    assert one(database, "SELECT state FROM batches") == ("completed",)
    check_counters_are_sums(database)


def test_closing_a_cancelled_batch_ends_what_never_ran_and_leaves_the_rest_to_its_workers(
    database: psycopg.Connection,
) -> None:
    batch_id = work.bulk(work.caller(), 30)
    (recorded,), (running,), (returned,) = take(rows=5), take(rows=5), take(rows=5)
    record(work.outcomes(recorded))
    record([work.outcome(returned, returned.jobs[0].seq)])
    leases.give_back([(returned.id, returned.fence)])
    database.execute("UPDATE batches SET state = 'cancelling', cancelling_at = now()")

    for _ in range(2):
        closing.close(batch_id)
        assert one(database, "SELECT state, succeeded, cancelled FROM batches") == ("cancelling", 6, 19)
        check_counters_are_sums(database)
    record(work.outcomes(running, "cancelled"))
    assert one(database, "SELECT state, succeeded, cancelled FROM batches") == ("cancelled", 6, 24)
    assert count(database, "results") == 30
    assert count(database, "claims") == 0
    check_counters_are_sums(database)


def test_closing_a_batch_that_nobody_cancelled_does_nothing(database: psycopg.Connection) -> None:
    batch_id = work.bulk(work.caller(), 3)
    closing.close(batch_id)
    assert one(database, "SELECT state, cancelled FROM batches") == ("in_progress", 0)
