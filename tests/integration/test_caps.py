"""Limits and caps while work runs: what may be claimed, when a batch pauses, and what lets it go on."""

import json
from uuid import UUID

import psycopg
import pytest

from common import batches, ids, pauses
from common.errors import Conflict
from tests import work
from tests.databases import one
from tests.exact import check_quotas_are_sums
from worker import claims, leases
from worker.claims import Claim
from worker.outcomes import record

pytestmark = pytest.mark.usefixtures("settings")

MODEL = "gpt-4o-mini"


def rows(taken: list[Claim]) -> int:
    return sum(len(claim.jobs) for claim in taken)


def row_cost(database: psycopg.Connection, batch_id: UUID) -> int:
    """What a row may cost at most; all rows of these batches may cost about the same."""
    found = one(database, "SELECT max(cost) FROM jobs WHERE batch_id = %s", batch_id)[0]
    assert isinstance(found, int)
    return found


def state(database: psycopg.Connection, batch_id: UUID) -> tuple[object, ...]:
    return one(database, "SELECT state, paused_reason FROM batches WHERE id = %s", batch_id)


def capped_batch(database: psycopg.Connection, count: int, rows_below_cap: float) -> UUID:
    """A batch whose cap has room for so many rows that cost what they may."""
    caller = work.caller()
    batch_id = work.bulk(caller, count, model=MODEL, max_cost=1)
    cap = round(rows_below_cap * row_cost(database, batch_id))
    batches.set_max_cost(caller, ids.show("batch_", batch_id), cap)
    return batch_id


# Jobs that run at once.


def test_an_account_has_no_more_jobs_running_than_it_may_and_others_are_served(database: psycopg.Connection) -> None:
    crowded, other = work.caller(), work.caller()
    work.bulk(crowded, 50)
    database.execute(
        "UPDATE accounts SET overrides = %s::jsonb WHERE id = %s",
        [json.dumps({"max_running_jobs": 20}), crowded.account_id],
    )
    assert rows(work.take(rows=16)) == 16
    assert rows(work.take(rows=16)) == 4
    nothing = claims.take("pro", 16, "worker A")
    assert (nothing.claims, nothing.blocked) == ([], True)
    work.bulk(other, 5)
    assert {claim.account_id for claim in work.take(rows=16)} == {other.account_id}


def test_a_job_that_ends_makes_room_for_the_next(database: psycopg.Connection) -> None:
    caller = work.caller()
    work.bulk(caller, 10)
    database.execute("UPDATE accounts SET overrides = %s::jsonb", [json.dumps({"max_running_jobs": 4})])
    (claim,) = work.take(rows=8)
    record(work.outcomes(claim)[:3])
    assert rows(work.take(rows=8)) == 3


# A batch's own cap.


@pytest.mark.parametrize(("below", "first"), [(0.5, 1), (1, 1), (1.5, 2), (3, 3), (3.2, 4), (100, 10)])
def test_rows_are_claimed_while_what_they_may_cost_is_below_the_cap(
    below: float, first: int, database: psycopg.Connection
) -> None:
    batch_id = capped_batch(database, 10, below)
    taken = claims.take("pro", 64, "worker A")
    assert rows(taken.claims) == first
    again = claims.take("pro", 64, "worker A")
    assert (rows(again.claims), again.more) == (0, False)
    assert state(database, batch_id) == ("in_progress", None)


def test_a_batch_runs_to_its_cap_then_pauses_passing_it_by_one_call_at_most(database: psycopg.Connection) -> None:
    batch_id = capped_batch(database, 200, 2.5)
    cap, most = row_cost(database, batch_id) * 5 // 2, 0
    for _ in range(1_000):
        taken = claims.take("pro", 64, "worker A")
        if not taken.claims:
            break
        most = max(most, rows(taken.claims))
        for claim in taken.claims:
            record(work.outcomes(claim))
    assert state(database, batch_id) == ("paused", "max_cost")
    cost, ended = one(database, "SELECT cost, succeeded FROM batches")
    assert isinstance(cost, int)
    assert cap <= cost < cap + work.COST
    assert most > 1
    assert isinstance(ended, int)
    assert 0 < ended < 200
    check_quotas_are_sums(database)


def test_raising_the_cap_lets_the_batch_go_on_and_lowering_it_stops_it(database: psycopg.Connection) -> None:
    caller = work.caller()
    batch_id = work.bulk(caller, 20, model=MODEL, max_cost=work.COST)
    shown = ids.show("batch_", batch_id)
    for claim in work.take():
        record(work.outcomes(claim))
    assert work.take() == []
    assert state(database, batch_id) == ("paused", "max_cost")
    assert batches.set_max_cost(caller, shown, work.COST // 2).state == "paused"
    assert batches.set_max_cost(caller, shown, None).state == "in_progress"
    assert rows(work.take(rows=5)) == 5
    assert batches.set_max_cost(caller, shown, 1).state == "in_progress"
    assert work.take(rows=5) == []
    assert state(database, batch_id) == ("paused", "max_cost")
    check_quotas_are_sums(database)


def test_what_a_lost_worker_held_is_room_again(database: psycopg.Connection) -> None:
    batch_id = capped_batch(database, 10, 3)
    (claim,) = work.take()
    assert work.take() == []
    leases.give_back([claim.key])
    assert rows(work.take()) == 3
    assert state(database, batch_id) == ("in_progress", None)


def test_a_paused_batch_can_be_cancelled_and_one_that_has_ended_has_no_cap_to_change(
    database: psycopg.Connection,
) -> None:
    caller = work.caller()
    batch_id = work.bulk(caller, 3, model=MODEL, max_cost=work.COST)
    for claim in work.take():
        record(work.outcomes(claim))
    assert work.take() == []
    shown = ids.show("batch_", batch_id)
    assert batches.cancel(caller.account_id, shown).state == "cancelling"
    work.close(batch_id)
    assert state(database, batch_id) == ("cancelled", None)
    with pytest.raises(Conflict):
        batches.set_max_cost(caller, shown, 10**9)
    check_quotas_are_sums(database)


# A paused account.


def test_calls_in_flight_when_an_account_is_paused_are_recorded_and_end_their_batch(
    database: psycopg.Connection,
) -> None:
    caller = work.caller()
    batch_id = work.bulk(caller, 3)
    (claim,) = work.take()
    assert pauses.pause_account(caller.account_id, "account_suspended") == [batch_id]
    record(work.outcomes(claim))
    assert state(database, batch_id) == ("completed", None)


# The platform's switch and cap.


def test_nothing_is_claimed_while_the_platform_is_stopped(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 3)
    database.execute("UPDATE platform SET stopped_at = now(), stopped_reason = 'a test'")
    assert claims.take("pro", 64, "worker A") == ([], False, False)
    database.execute("UPDATE platform SET stopped_at = NULL, stopped_reason = NULL")
    assert rows(work.take()) == 3


def test_the_platform_stops_at_its_cap_and_passes_it_by_one_call_at_most(database: psycopg.Connection) -> None:
    for _ in range(3):
        work.bulk(work.caller(), 40, model=MODEL)
    cap = 5 * work.COST + 1
    database.execute("UPDATE platform SET hard_cap = %s", [cap])
    for _ in range(200):
        taken = claims.take("pro", 64, "worker A")
        if not taken.claims:
            break
        for claim in taken.claims:
            record(work.outcomes(claim))
    spent, reason = one(database, "SELECT spent, stopped_reason FROM platform")
    assert isinstance(spent, int)
    assert cap <= spent < cap + work.COST
    assert reason == "spend_cap"
    assert (spent,) == one(database, "SELECT sum(cost)::bigint FROM usage_records")


def test_a_new_month_spends_anew(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 2, model=MODEL)
    database.execute("UPDATE platform SET month = '2001-01-01', spent = 10000000, hard_cap = 10000001")
    (claim,) = work.take(rows=1)
    record(work.outcomes(claim))
    assert one(database, "SELECT spent, stopped_at, month > '2001-01-01' FROM platform") == (work.COST, None, True)
