"""An account's caps on the money of a billing period: at the hard one nothing more starts, the soft one is told."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Unpack
from uuid import UUID

import psycopg
import pytest

from common import accounts, ids, pauses, queue
from common.accounts import Changes
from common.audit import COMMAND_LINE
from common.keys import Caller
from tests import work
from tests.databases import one
from tests.exact import check_quotas_are_sums
from tests.waiting import wait_for
from worker import leases, sweep
from worker.outcomes import record

pytestmark = pytest.mark.usefixtures("settings")

MODEL = "gpt-4o-mini"
RUNNING = ("in_progress", None)
PAUSED = ("paused", "spend_cap")


def change(of: Caller, **changes: Unpack[Changes]) -> None:
    accounts.change(COMMAND_LINE, of.account_id, changes)


def state(database: psycopg.Connection, batch_id: UUID) -> tuple[Any, ...]:
    return one(database, "SELECT state, paused_reason FROM batches WHERE id = %s", batch_id)


def spend(rows: int) -> None:
    """Runs so many rows of what is pending."""
    (claim,) = work.take(rows=rows)
    record(work.outcomes(claim))


def begin_period(database: psycopg.Connection) -> None:
    """A new billing period of every account begins."""
    database.execute("UPDATE accounts SET billing_anchor = clock_timestamp()")


def capped(database: psycopg.Connection) -> tuple[Caller, UUID, UUID]:
    """An account that has spent the cost of three rows, and its cap with it; a batch and a single job wait."""
    of = work.caller()
    batch_id = work.bulk(of, 10, model=MODEL)
    (claim,) = work.take(rows=3)
    job_id = work.single(of)
    # Lowered while the work runs: no reservation stands against it.
    database.execute("UPDATE accounts SET hard_cap = %s WHERE id = %s", [3 * work.COST, of.account_id])
    record(work.outcomes(claim))
    assert state(database, batch_id) == state(database, job_id) == PAUSED
    return of, batch_id, job_id


# The hard cap.


def test_an_account_is_paused_at_its_hard_cap_by_the_flush_that_comes_to_it(database: psycopg.Connection) -> None:
    of = work.caller()
    first, second = work.bulk(of, 10, model=MODEL), work.bulk(of, 10, model=MODEL)
    database.execute("UPDATE accounts SET hard_cap = %s", [4 * work.COST])
    (claim,) = work.take(rows=6)
    record(work.outcomes(claim)[:3])
    assert state(database, first) == state(database, second) == RUNNING
    record(work.outcomes(claim)[3:])
    assert state(database, first) == state(database, second) == PAUSED
    assert work.take() == []
    sweep.run()
    assert state(database, first) == state(database, second) == PAUSED
    check_quotas_are_sums(database)


def test_what_an_account_s_cap_paused_goes_on_with_the_next_billing_period(database: psycopg.Connection) -> None:
    _, batch_id, job_id = capped(database)
    other, *others = capped(database)
    database.execute("UPDATE accounts SET billing_anchor = clock_timestamp() WHERE id <> %s", [other.account_id])
    queue.redis().flushdb()
    sweep.run()
    assert state(database, batch_id) == state(database, job_id) == RUNNING
    assert {state(database, other_id) for other_id in others} == {PAUSED}
    assert queue.waiting()["plan-pro"] == 1
    assert sum(len(claim.jobs) for claim in work.all_claims()) == 8


@pytest.mark.parametrize("reached_again", [False, True])
def test_what_is_left_of_a_period_at_its_cap_stops_nothing_in_the_next(
    reached_again: bool, database: psycopg.Connection
) -> None:
    of = work.caller()
    old = work.bulk(of, 10, model=MODEL)
    (claim,) = work.take(rows=6)
    begin_period(database)
    new = work.bulk(work.caller_of(of.account_id), 10, model=MODEL)
    database.execute("UPDATE accounts SET hard_cap = %s", [3 * work.COST])
    record(work.outcomes(claim)[:4])
    assert state(database, old) == state(database, new) == RUNNING
    if reached_again:
        database.execute("UPDATE batches SET served_at = now() WHERE id = %s", [old])
        spend(3)
        assert state(database, old) == state(database, new) == PAUSED
    record(work.outcomes(claim)[4:])
    sweep.run()
    assert state(database, old) == state(database, new) == (PAUSED if reached_again else RUNNING)
    check_quotas_are_sums(database)


@pytest.mark.parametrize("cap", [3 * work.COST + 1, None])
def test_what_an_account_s_cap_paused_goes_on_below_a_higher_cap_or_without_one(
    cap: int | None, database: psycopg.Connection
) -> None:
    of, batch_id, job_id = capped(database)
    change(of, hard_cap=2 * work.COST)
    sweep.run()
    assert state(database, batch_id) == state(database, job_id) == PAUSED
    # The operator's process may have died right after its commit.
    database.execute("UPDATE accounts SET hard_cap = %s", [cap])
    sweep.run()
    assert state(database, batch_id) == state(database, job_id) == RUNNING


def test_an_account_beyond_its_cap_is_paused_also_where_no_flush_came_to_tell(database: psycopg.Connection) -> None:
    of, within = work.caller(), work.caller()
    batch_id = work.bulk(of, 10, model=MODEL)
    spend(3)
    other_id = work.bulk(within, 10, model=MODEL)
    # As a worker leaves it that dies between its commit and the pause, or an operator who lowers the cap.
    for capped_at, account in ((3, of), (10, within)):
        database.execute("UPDATE accounts SET hard_cap = %s WHERE id = %s", [capped_at * work.COST, account.account_id])
    for _ in range(2):
        sweep.run()
        assert (state(database, batch_id), state(database, other_id)) == (PAUSED, RUNNING)


def test_what_becomes_ready_beyond_the_cap_is_paused_by_the_sweep(database: psycopg.Connection) -> None:
    of, batch_id, job_id = capped(database)
    # A request that was under way when the cap was set.
    later = work.single(of)
    sweep.run()
    assert {state(database, found) for found in (batch_id, job_id, later)} == {PAUSED}
    assert work.all_claims() == []


def test_rows_that_a_worker_lost_wait_while_their_account_is_at_its_cap(database: psycopg.Connection) -> None:
    of = work.caller()
    batch_id = work.bulk(of, 6, model=MODEL)
    (claim,) = work.take(rows=6)
    record(work.outcomes(claim)[:3])
    database.execute("UPDATE accounts SET hard_cap = %s", [work.COST])
    leases.give_back([claim.key])
    sweep.run()
    assert state(database, batch_id) == PAUSED
    begin_period(database)
    sweep.run()
    assert sum(len(claim.jobs) for claim in work.all_claims()) == 3


def test_an_account_at_its_cap_that_is_resumed_stays_paused_for_the_cap(database: psycopg.Connection) -> None:
    of, batch_id, _ = capped(database)
    pauses.resume_account(of.account_id, "spend_cap")
    accounts.suspend(COMMAND_LINE, of.account_id, "unpaid")
    assert state(database, batch_id) == ("paused", "account_suspended")
    accounts.resume(COMMAND_LINE, of.account_id)
    sweep.run()
    assert state(database, batch_id) == PAUSED


def test_a_suspended_account_s_work_waits_for_both_reasons_to_be_gone(database: psycopg.Connection) -> None:
    of, batch_id, job_id = capped(database)
    accounts.suspend(COMMAND_LINE, of.account_id, "unpaid")
    begin_period(database)
    sweep.run()
    assert state(database, batch_id) == state(database, job_id) == ("paused", "account_suspended")
    accounts.resume(COMMAND_LINE, of.account_id)
    assert state(database, batch_id) == state(database, job_id) == RUNNING


# The soft cap.


def told(database: psycopg.Connection) -> list[Any]:
    """The caps that accounts were told they came to."""
    query = "SELECT data ->> 'limit_value' FROM events WHERE data ->> 'limit' = 'soft_cap' ORDER BY id"
    return [int(row[0]) for row in database.execute(query)]


def reached_at(database: psycopg.Connection) -> datetime | None:
    (found,) = one(database, "SELECT soft_cap_reached_at FROM quotas")
    assert found is None or isinstance(found, datetime)
    return found


def test_an_account_that_comes_to_its_soft_cap_is_told_once_a_period(database: psycopg.Connection) -> None:
    of = work.caller()
    work.bulk(of, 10, model=MODEL)
    change(of, soft_cap=2 * work.COST)
    spend(1)
    assert (told(database), reached_at(database)) == ([], None)
    spend(2)
    moment = reached_at(database)
    assert moment is not None
    spend(1)
    assert (told(database), reached_at(database)) == ([2 * work.COST], moment)
    begin_period(database)
    work.bulk(work.caller_of(of.account_id), 3, model=MODEL)
    database.execute("UPDATE batches SET served_at = now() WHERE cursor > 0")
    spend(2)
    assert told(database) == [2 * work.COST] * 2


def test_a_soft_cap_below_what_is_spent_is_told_with_the_next_result(database: psycopg.Connection) -> None:
    of = work.caller()
    work.bulk(of, 10, model=MODEL)
    spend(3)
    change(of, soft_cap=work.COST)
    assert (told(database), reached_at(database)) == ([], None)
    spend(1)
    assert told(database) == [work.COST]
    assert reached_at(database) is not None


@pytest.mark.parametrize("taken_away", [False, True])
def test_another_soft_cap_is_told_again(taken_away: bool, database: psycopg.Connection) -> None:
    of = work.caller()
    work.bulk(of, 10, model=MODEL)
    change(of, soft_cap=work.COST)
    spend(1)
    if taken_away:
        change(of, soft_cap=None)
    change(of, soft_cap=3 * work.COST)
    assert reached_at(database) is None
    spend(1)
    assert (told(database), reached_at(database)) == ([work.COST], None)
    spend(1)
    assert told(database) == [work.COST, 3 * work.COST]
    assert reached_at(database) is not None


def test_a_lower_soft_cap_is_not_told_where_a_higher_one_was(database: psycopg.Connection) -> None:
    of = work.caller()
    work.bulk(of, 10, model=MODEL)
    change(of, soft_cap=2 * work.COST)
    spend(3)
    moment = reached_at(database)
    change(of, soft_cap=work.COST, name="Ann again")
    spend(1)
    assert (told(database), reached_at(database)) == ([2 * work.COST], moment)


def test_a_flush_that_waits_while_the_soft_cap_is_raised_goes_by_the_new_one(
    settings: dict[str, str], database: psycopg.Connection
) -> None:
    of = work.caller()
    work.bulk(of, 10, model=MODEL)
    change(of, soft_cap=work.COST)
    spend(1)
    (claim,) = work.take(rows=1)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as threads:
        with psycopg.connect(settings["DATABASE_URL"]) as holder:
            holder.execute("SELECT 1 FROM quotas FOR UPDATE")
            raising = threads.submit(change, of, soft_cap=5 * work.COST)
            wait_for(lambda: one(database, waiting), lambda found: found == (1,))
            recording = threads.submit(record, work.outcomes(claim))
            wait_for(lambda: one(database, waiting), lambda found: found == (2,))
        raising.result()
        recording.result()
    assert (told(database), reached_at(database)) == ([work.COST], None)


def test_the_event_has_an_id_in_the_order_of_time_as_all_others(database: psycopg.Connection) -> None:
    of = work.caller()
    work.bulk(of, 3, model=MODEL)
    change(of, soft_cap=work.COST)
    before = ids.new_id()
    spend(1)
    (found,) = one(database, "SELECT id FROM events WHERE type = 'usage.threshold_reached'")
    assert isinstance(found, UUID)
    assert found.version == 7
    assert before.int >> 80 <= found.int >> 80 <= ids.new_id().int >> 80
