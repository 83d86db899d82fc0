"""Which work a worker is given: fairly, once, and again only when it was given back."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from tests import work
from tests.databases import one
from tests.work import take
from worker import claims, fairest, ingest, leases
from worker.claims import Claim
from worker.leases import Renewed
from worker.outcomes import record

pytestmark = pytest.mark.usefixtures("settings")

Row = tuple[UUID, int]


def rows_of(taken: list[Claim]) -> list[Row]:
    return [(claim.batch_id, job.seq) for claim in taken for job in claim.jobs]


def test_a_plan_without_work_gives_none() -> None:
    work.single(work.caller("pro"))
    assert claims.take("free", 64, "worker A") == ([], False, False)


def test_a_claim_takes_the_next_rows_of_a_batch_and_says_whether_there_are_more() -> None:
    batch_id = work.bulk(work.caller(), 10)
    seen = []
    for expected in (range(4), range(4, 8), range(8, 10)):
        taken, more, _ = claims.take("pro", 4, "worker A")
        assert rows_of(taken) == [(batch_id, seq) for seq in expected]
        assert more == (expected.stop < 10)
        seen += [job.body for claim in taken for job in claim.jobs]
    assert claims.take("pro", 4, "worker A") == ([], False, False)
    assert all(b"row %d" % number in body for number, body in enumerate(seen))


def test_single_jobs_are_claimed_together_in_their_order_and_before_batches() -> None:
    caller = work.caller()
    bulk = work.bulk(caller, 5)
    singles = [work.single(caller) for _ in range(5)]
    first, second = take(rows=3), take(rows=3)
    assert all(claim.single for claim in first + second)
    assert sorted(rows_of(first) + rows_of(second)) == sorted((batch_id, 0) for batch_id in singles)
    assert max(first, key=lambda claim: claim.batch_id).batch_id < min(claim.batch_id for claim in second)
    assert rows_of(take(rows=3)) == [(bulk, 0), (bulk, 1), (bulk, 2)]


def test_the_batches_of_an_account_take_turns() -> None:
    caller = work.caller()
    batches = [work.bulk(caller, 20) for _ in range(3)]
    served = [take(rows=2)[0].batch_id for _ in range(12)]
    assert all(set(served[start : start + 3]) == set(batches) for start in range(0, 12, 3))


def test_an_account_with_ten_thousand_rows_does_not_hold_up_one_with_a_single_job() -> None:
    work.bulk(work.caller(), 10_000)
    for _ in range(5):
        take()
    alone = work.single(work.caller())
    waited = next(number for number in range(1, 10) if (alone, 0) in rows_of(take()))
    assert waited <= 2


def test_accounts_of_a_plan_get_equal_shares_whatever_the_number_of_their_batches() -> None:
    busy, calm = work.caller(), work.caller()
    for _ in range(5):
        work.bulk(busy, 100)
    work.bulk(calm, 500)
    served = Counter(take(rows=10)[0].account_id for _ in range(40))
    assert abs(served[busy.account_id] - served[calm.account_id]) <= 2


def test_an_account_that_slept_starts_where_the_others_are() -> None:
    early, late = work.caller(), work.caller()
    work.bulk(early, 1_000)
    for _ in range(30):
        take(rows=10)
    work.bulk(late, 1_000)
    served = Counter(take(rows=10)[0].account_id for _ in range(20))
    assert abs(served[early.account_id] - served[late.account_id]) <= 2


def test_no_row_is_ever_claimed_by_two() -> None:
    callers = [work.caller() for _ in range(3)]
    expected: set[Row] = set()
    for caller in callers:
        batch_id = work.bulk(caller, 300)
        expected |= {(batch_id, seq) for seq in range(300)}
        expected |= {(work.single(caller), 0) for _ in range(20)}

    def claim_all(worker: str) -> list[Row]:
        rows: list[Row] = []
        while taken := take(rows=7, worker=worker):
            rows += rows_of(taken)
        return rows

    with ThreadPoolExecutor(4) as threads:
        taken_by = list(threads.map(claim_all, ["A", "B", "C", "D"]))
    every = [row for rows in taken_by for row in rows]
    assert len(every) == len(set(every))
    assert set(every) == expected
    assert sum(bool(rows) for rows in taken_by) >= 2


def test_what_is_given_back_comes_again_under_a_higher_fence_without_what_has_its_result(
    database: psycopg.Connection,
) -> None:
    batch_id = work.bulk(work.caller(), 10)
    (claim,) = take(rows=6)
    record([work.outcome(claim, seq) for seq in (0, 3)])
    assert leases.give_back([(claim.id, claim.fence)]) == {"pro"}
    assert one(database, "SELECT returned, cursor FROM batches") == (4, 6)

    (again,) = take(rows=64, worker="worker B")
    assert (again.id, again.fence) == (claim.id, claim.fence + 1)
    assert rows_of([again]) == [(batch_id, seq) for seq in (1, 2, 4, 5)]
    assert one(database, "SELECT returned, cursor FROM batches") == (0, 6)
    assert one(database, "SELECT pending, worker, state FROM claims") == (4, "worker B", "leased")
    assert rows_of(take(rows=64)) == [(batch_id, seq) for seq in range(6, 10)]


def test_a_stale_worker_gives_nothing_back(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 4)
    (claim,) = take()
    leases.give_back([(claim.id, claim.fence)])
    (again,) = take(worker="worker B")
    assert leases.give_back([(claim.id, claim.fence)]) == set()
    assert one(database, "SELECT state, fence, worker FROM claims") == ("leased", again.fence, "worker B")
    assert one(database, "SELECT returned FROM batches") == (0,)


def test_giving_back_twice_counts_once(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 4)
    (claim,) = take()
    assert leases.give_back([(claim.id, claim.fence)]) == {"pro"}
    assert leases.give_back([(claim.id, claim.fence)]) == set()
    assert one(database, "SELECT returned FROM batches") == (4,)


def test_a_claim_never_holds_a_row_that_has_its_result() -> None:
    batch_id = work.upload(work.caller(), b"text,n\n" + b"".join(b"%b,%d\n" % (b"a" * (n % 3), n) for n in range(30)))
    ingest.ingest(batch_id)
    seen: list[Row] = []
    while True:
        taken, more, _ = claims.take("pro", 4, "worker A")
        seen += rows_of(taken)
        if not more:
            break
    assert seen == [(batch_id, seq) for seq in range(30) if seq % 3]


def test_renewing_extends_the_leases_that_are_held_and_tells_which_batches_are_being_cancelled(
    database: psycopg.Connection,
) -> None:
    caller = work.caller()
    kept, cancelled = work.bulk(caller, 4), work.bulk(caller, 4)
    mine = {claim.batch_id: claim.key for _ in range(2) for claim in take()}
    work.bulk(caller, 4)
    (theirs,) = take(worker="worker B")
    database.execute("UPDATE claims SET lease_until = now() - interval '1 minute'")
    database.execute("UPDATE batches SET state = 'cancelling', cancelling_at = now() WHERE id = %s", [cancelled])
    assert leases.renew(mine.values()) == {
        mine[kept]: Renewed(None, False), mine[cancelled]: Renewed("cancelled", False),
    }  # fmt: skip
    expired = database.execute("SELECT id FROM claims WHERE lease_until < now()").fetchall()
    assert expired == [(theirs.id,)]


def test_only_leases_that_have_ended_are_taken_from_their_workers(database: psycopg.Connection) -> None:
    caller = work.caller()
    dead = work.bulk(caller, 4)
    (lost,) = take()
    work.bulk(caller, 4)
    take(worker="worker B")
    assert leases.give_back_expired() == set()
    database.execute("UPDATE claims SET lease_until = now() - interval '1 second' WHERE id = %s", [lost.id])
    assert leases.give_back_expired() == {"pro"}
    assert leases.renew([lost.key]) == {}
    (again,) = take(worker="worker B")
    assert (again.batch_id, again.fence, len(again.jobs)) == (dead, lost.fence + 1, 4)
    assert leases.renew([lost.key]) == {}, "the lease is another's now, though the claim is the same"


def test_a_cancelled_batch_is_claimed_no_more(database: psycopg.Connection) -> None:
    work.bulk(work.caller(), 4)
    take(rows=2)
    database.execute("UPDATE batches SET state = 'cancelling', cancelling_at = now()")
    assert claims.take("pro", 64, "worker A") == ([], False, False)


def test_jobs_of_a_congested_model_are_left_for_later_and_those_behind_them_are_served() -> None:
    slow, quick, both = work.caller(), work.caller(), work.caller()
    waiting = work.bulk(slow, 5, model="slow")
    served = work.bulk(quick, 5, model="quick")
    hidden, shown = work.bulk(both, 5, model="slow"), work.bulk(both, 5, model="quick")
    found = set()
    while taken := claims.take("pro", 64, "worker A", {"slow"}).claims:
        found |= {claim.batch_id for claim in taken}
    assert found == {served, shown}
    left = claims.take("pro", 64, "worker A", {"slow"})
    assert (left.claims, left.more, left.blocked) == ([], False, True)
    assert {claim.batch_id for claim in work.all_claims()} == {waiting, hidden}


def test_single_jobs_alone_are_claimed_where_only_they_are_wanted_and_in_the_order_of_their_accounts(
    database: psycopg.Connection,
) -> None:
    ann, bob = work.caller(), work.caller()
    for of in (ann, bob):
        work.bulk(of, 40)
    assert fairest.plans_with_singles() == []
    # Bob has had more.
    database.execute("UPDATE accounts SET virtual_time = 1000000 WHERE id = %s", [bob.account_id])
    jobs = [work.single(of) for of in (bob, bob, ann)]
    work.single(work.caller("team"))
    assert set(fairest.plans_with_singles()) == {"pro", "team"}
    taken = [claims.take("pro", 8, "worker A", singles=True).claims for _ in range(3)]
    assert [rows_of(found) for found in taken] == [[(jobs[2], 0)], sorted((job, 0) for job in jobs[:2]), []]
    assert fairest.plans_with_singles() == ["team"]
