"""Claims under a cap, with something else committed between any two of their statements: the cap is passed by one call
at most, and nothing waits for a word that has been said already."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event

from common import batches, ids
from common.database import owner_engine
from common.keys import Caller
from tests import work
from tests.databases import one
from tests.exact import check_quotas_are_sums
from tests.waiting import wait_for
from worker.claims import Claim
from worker.outcomes import TokenUsage, record

pytestmark = pytest.mark.usefixtures("settings")

MILLION = 10**6
MODEL = "gpt-4o-mini"
ROWS = 20
# A claim makes no more.
STATEMENTS = 11


def statements(database: psycopg.Connection) -> Iterator[int]:
    """The statements of a claim one after the other, each time with a database without accounts."""
    for statement in range(1, STATEMENTS + 1):
        yield statement
        database.execute("TRUNCATE accounts CASCADE")


@contextmanager
def meanwhile(database: psycopg.Connection, statement: int, act: Callable[[], object]) -> Iterator[None]:
    """Before the owner's `statement`-th one within it `act` runs in a thread: to its end, or until it waits for a lock.
    Where there are fewer it runs after them. In the end it has ended."""
    begun: list[Future[object]] = []
    left = statement
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def come_to(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            begun.append(thread.submit(act))
            wait_for(lambda: begun[0].done() or one(database, waiting) > (0,), bool)

    with ThreadPoolExecutor(1) as thread:
        event.listen(owner_engine(), "before_cursor_execute", come_to)
        try:
            yield
        finally:
            event.remove(owner_engine(), "before_cursor_execute", come_to)
        acted = begun[0] if begun else thread.submit(act)
        acted.result(30)


def row_cost(database: psycopg.Connection) -> int:
    """What a row may cost at most; all rows here may cost about the same."""
    found = one(database, "SELECT max(cost) FROM jobs")[0]
    assert isinstance(found, int)
    return found


def capped_batch(database: psycopg.Connection, rows_below_cap: float) -> tuple[Caller, UUID]:
    """A batch whose cap has room for so many rows that cost what they may, and its caller."""
    caller = work.caller()
    batch_id = work.bulk(caller, ROWS, model=MODEL, max_cost=1)
    batches.set_max_cost(caller, ids.show("batch_", batch_id), round(rows_below_cap * row_cost(database)))
    return caller, batch_id


def record_rows(claim: Claim, seqs: range, each_costs: int) -> None:
    """The calls of these rows cost so much each, or hardly more."""
    tokens = -(-each_costs * MILLION // work.PRICE.completion)
    usage = TokenUsage(prompt_tokens=0, cached_tokens=0, completion_tokens=tokens)
    record([work.outcome(claim, seq, usage=usage) for seq in seqs])


def nearly_at_its_cap(database: psycopg.Connection) -> tuple[Claim, int]:
    """A claim of five rows under a cap of four and a half, of which three cost what they may and two run; and what a
    row may cost."""
    capped_batch(database, 4.5)
    (claim,) = work.take()
    assert len(claim.jobs) == 5
    dear = row_cost(database)
    record_rows(claim, range(3), dear)
    return claim, dear


def test_a_batch_goes_on_whenever_the_last_of_its_running_jobs_is_recorded(database: psycopg.Connection) -> None:
    for statement in statements(database):
        claim, _ = nearly_at_its_cap(database)
        with meanwhile(database, statement, partial(record_rows, claim, range(3, 5), 1)):
            taken = work.take()
        assert taken or work.take(), f"nothing runs, there is room, and nothing can be claimed: {statement}"
        check_quotas_are_sums(database)


def test_a_batchs_cap_holds_whenever_the_last_of_its_running_jobs_is_recorded(database: psycopg.Connection) -> None:
    for statement in statements(database):
        claim, dear = nearly_at_its_cap(database)
        with meanwhile(database, statement, partial(record_rows, claim, range(3, 5), dear)):
            taken = work.take()
        assert taken + work.take() == [], f"claimed past the cap: {statement}"
        assert one(database, "SELECT state, paused_reason FROM batches") == ("paused", "max_cost")


def test_a_batch_whose_cap_is_lifted_goes_on_whenever_that_is(database: psycopg.Connection) -> None:
    for statement in statements(database):
        caller, batch_id = capped_batch(database, 0.5)
        (claim,) = work.take()
        record_rows(claim, range(1), row_cost(database))
        with meanwhile(database, statement, partial(batches.set_max_cost, caller, ids.show("batch_", batch_id), None)):
            taken = work.take()
        assert taken or work.take(), f"there is no cap, and nothing can be claimed: {statement}"
        check_quotas_are_sums(database)


def test_the_platforms_cap_holds_whenever_another_plans_work_is_claimed(database: psycopg.Connection) -> None:
    for statement in statements(database):
        for plan in ("pro", "free"):
            work.bulk(work.caller(plan), ROWS, model=MODEL)
        dear = row_cost(database)
        database.execute("UPDATE platform SET hard_cap = %s", [dear * 5 // 2])
        with meanwhile(database, statement, partial(work.take, "free")):
            work.take("pro")
        running = one(database, "SELECT sum(cost)::bigint FROM claims WHERE state = 'leased'")[0]
        assert isinstance(running, int)
        assert running < dear * 7 // 2, f"claimed past the cap by more than a call: {statement}"
