"""Claims whose processes died: each death is counted, and the culprit is looked for in ever smaller pieces."""

import random
from uuid import UUID

import psycopg
import pytest

from common import batches, ids, invariants, queue, work_invariants
from tests import work
from tests.databases import one
from tests.work import take
from worker import closing, leases, retrying, suspects
from worker.claims import Claim
from worker.outcomes import record
from worker.suspects import ALONE_DEATHS, MAX_DEATHS, ROWS_ON_TRIAL, SUSPECT_DEATHS

pytestmark = pytest.mark.usefixtures("settings")
MODEL = "gpt-4o-mini"


def die(database: psycopg.Connection) -> None:
    """All leases end without a word."""
    database.execute("UPDATE claims SET lease_until = now() - interval '1 second' WHERE state = 'leased'")
    leases.give_back_expired()
    in_order()


def in_order() -> None:
    with invariants.snapshot() as snapshot:
        for page in invariants.batch_pages(snapshot):
            assert invariants.of_batches(snapshot, page) == []
        assert work_invariants.quotas(snapshot) == work_invariants.claims(snapshot) == []


def pieces(database: psycopg.Connection) -> list[tuple[int, int, int]]:
    """First row, rows and deaths of the claims that came back."""
    found = database.execute("SELECT first_seq, pending, deaths FROM claims ORDER BY first_seq").fetchall()
    return [(int(first), int(rows), int(deaths)) for first, rows, deaths in found]


def suspected(database: psycopg.Connection, rows: int) -> UUID:
    """A batch whose one claim is suspected and came back in pieces."""
    batch_id = work.bulk(work.caller(), rows, model=MODEL)
    for _ in range(SUSPECT_DEATHS):
        take(rows=rows)
        die(database)
    return batch_id


def test_one_death_changes_nothing_and_a_second_makes_small_pieces_of_the_rows_left(
    database: psycopg.Connection,
) -> None:
    work.bulk(work.caller(), 40, model=MODEL)
    (claim,) = take(rows=40)
    record([work.outcome(claim, seq) for seq in range(0, 10)])
    die(database)
    assert pieces(database) == [(0, 30, 1)]
    (claim,) = take(rows=40)
    assert claim.deaths == 1
    record([work.outcome(claim, 20)])
    die(database)
    assert pieces(database) == [(10, 16, 2), (27, 13, 2)]


def test_rows_that_are_given_back_count_no_death(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 4)
    for _ in range(SUSPECT_DEATHS + 1):
        leases.give_back([claim.key for claim in take()])
    assert pieces(database) == [(0, 4, 0)]


def test_of_suspected_claims_only_those_on_trial_count_the_next_death(database: psycopg.Connection) -> None:
    suspected(database, 40)
    tried, *_ = taken = take(rows=40)
    assert [len(claim.jobs) for claim in taken] == [16, 16, 8]
    assert leases.begin_trial([tried.key]) == {tried.key}
    die(database)
    singles = [(row, 1, ALONE_DEATHS) for row in range(ROWS_ON_TRIAL)]
    assert pieces(database) == [*singles, (16, 16, 2), (32, 8, 2)]


def test_what_is_not_suspected_yet_counts_the_death_beside_a_trial(database: psycopg.Connection) -> None:
    suspected(database, 16)
    work.single(work.caller())
    taken = [claim for _ in range(2) for claim in take(rows=16)]
    (tried,) = [claim for claim in taken if suspects.is_suspect(claim)]
    leases.begin_trial([tried.key])
    die(database)
    single = one(database, "SELECT deaths FROM claims c JOIN batches b ON b.id = c.batch_id WHERE b.kind = 'single'")
    assert single == (1,)


def test_a_trial_of_a_claim_that_was_lost_does_not_begin(database: psycopg.Connection) -> None:
    suspected(database, 3)
    (lost,) = take()
    die(database)
    take(worker="worker B")
    assert leases.begin_trial([lost.key]) == set()
    assert one(database, "SELECT on_trial FROM claims") == (False,)


def alone(database: psycopg.Connection) -> Claim:
    """The one row of a batch, to blame."""
    suspected(database, 1)
    for _ in range(MAX_DEATHS - SUSPECT_DEATHS):
        (claim,) = take()
        assert not suspects.is_to_blame(claim)
        leases.begin_trial([claim.key])
        die(database)
    (claim,) = take()
    return claim


def test_a_row_is_to_blame_once_it_died_alone_several_times_and_a_retry_begins_anew(
    database: psycopg.Connection,
) -> None:
    claim = alone(database)
    assert suspects.is_to_blame(claim)
    record([work.outcome(claim, 0, "failed", error_code="worker_crashed", attempts=claim.deaths)])
    in_order()
    of = work.caller_of(claim.account_id)
    batches.retry(of, ids.show("batch_", claim.batch_id))
    retrying.retry(claim.batch_id)
    (again,) = take()
    assert again.deaths == 0
    record(work.outcomes(again))
    in_order()
    assert one(database, "SELECT state, succeeded FROM batches") == ("completed", 1)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_pieces_end_with_their_batch(database: psycopg.Connection, how: str) -> None:
    batch_id = suspected(database, 50)
    tried, *_ = take(rows=50)
    leases.begin_trial([tried.key])
    die(database)
    state, column = ("cancelling", "cancelling_at") if how == "cancelled" else ("expiring", "expiring_at")
    database.execute(f"UPDATE batches SET state = '{state}', {column} = now()")
    closing.close(batch_id)
    assert database.execute("SELECT state, cancelled + expired FROM batches").fetchall() == [(how, 50)]
    assert pieces(database) == []
    in_order()


def test_a_process_that_was_only_held_up_writes_nothing_of_what_became_pieces(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 40, model=MODEL)
    take(rows=40)
    die(database)
    (held_up,) = take(rows=40)
    die(database)
    record(work.outcomes(held_up))
    again = take(rows=40)
    record(work.outcomes(held_up))
    assert one(database, "SELECT succeeded FROM batches") == (0,)
    for claim in again:
        record(work.outcomes(claim))
    assert one(database, "SELECT state, succeeded FROM batches") == ("completed", 40)
    in_order()


@pytest.mark.parametrize("seed", range(4))
def test_sums_hold_through_random_deaths_and_no_row_is_lost(seed: int, database: psycopg.Connection) -> None:
    chance = random.Random(seed)
    work.bulk(work.caller(), 60, model=MODEL)
    queue.redis().flushdb()
    for _ in range(60):
        taken = take(rows=chance.randrange(1, 60))
        tried = [claim.key for claim in taken if suspects.is_suspect(claim)]
        leases.begin_trial(tried[:1])
        for claim in taken:
            if chance.random() < 0.3:
                record([work.outcome(claim, chance.choice(claim.jobs).seq)])
        die(database)
    for claim in work.all_claims(64):
        record(work.outcomes(claim))
    assert one(database, "SELECT state, succeeded FROM batches") == ("completed", 60)
    in_order()
