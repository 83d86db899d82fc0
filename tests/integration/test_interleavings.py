"""Workers, sweeps, retries, cancels, pauses and expiry all at once: no row is lost or doubled, and every batch ends."""

import random
import threading
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest

from common import ids
from tests import work
from tests.databases import one
from tests.exact import check_events, check_exact
from tests.web_client import WebClient
from tests.work import take
from worker import closing, leases, retention, retrying, sweep
from worker.claims import Claim
from worker.endings import Stopped
from worker.outcomes import record

SECONDS = 6.0
BATCHES = 4
ROWS = 150


class _Chaos:
    """Threads that act again and again until the time is over; what one of them raises fails the test."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._end = time.monotonic() + SECONDS
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def add(self, act: Callable[[random.Random], None]) -> None:
        chance = random.Random(f"{self._seed} {len(self._threads)}")

        def run() -> None:
            try:
                while time.monotonic() < self._end and not self.errors:
                    act(chance)
            # Also a failed assertion: the test's own thread raises it.
            except BaseException as error:
                self.errors.append(error)

        self._threads.append(threading.Thread(target=run))

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        assert self.errors == []


def _work(claim: Claim, stopped: Stopped | None, chance: random.Random) -> None:
    """Records some of the claim's rows, in groups, some of them twice."""
    seqs = [job.seq for job in claim.jobs if chance.random() < 0.9]
    kinds = [stopped] if stopped is not None else ["succeeded", "succeeded", "failed"]
    for start in range(0, len(seqs), 7):
        group = [work.outcome(claim, seq, chance.choice(kinds)) for seq in seqs[start : start + 7]]
        for _ in range(chance.choice([1, 1, 2])):
            record(group)


def _worker(chance: random.Random) -> None:
    for claim in take(rows=chance.randint(1, 40)):
        renewed = leases.renew([claim.key])
        if claim.key in renewed:
            _work(claim, renewed[claim.key].stopped, chance)
        # Otherwise it dies with its lease.
        if chance.random() < 0.7:
            leases.give_back([claim.key])


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_at_once_every_row_ends_once_and_every_number_is_exact(
    web: WebClient, database: psycopg.Connection, settings: dict[str, str], seed: int
) -> None:
    batch_ids = [work.requests(web.caller, [work.request(n) for n in range(ROWS)]) for _ in range(BATCHES)]
    chaos = _Chaos(seed)
    verbs = {"retry": 0, "cancel": 0, "pause": 0, "resume": 0}

    def customer(chance: random.Random) -> None:
        verb = chance.choice(["retry", "retry", "retry", "cancel", "pause", "resume", "resume"])
        answer = web.post(f"/v1/batches/{ids.show('batch_', chance.choice(batch_ids))}/{verb}")
        assert answer.status_code in (200, 409), answer.text
        verbs[verb] += answer.status_code == 200
        # Customers do not ask without a pause: the others must get to do something between two verbs.
        time.sleep(0.01)

    def tasks(chance: random.Random) -> None:
        batch_id = chance.choice(batch_ids)
        chance.choice([closing.close, retrying.retry])(batch_id)
        if chance.random() < 0.1:
            retention.run()

    def sweeper(chance: random.Random) -> None:
        with psycopg.connect(settings["DATABASE_URL"], autocommit=True) as connection:
            # Those that somebody holds are left out: this lock is no part of the product's order of locks.
            connection.execute(
                "UPDATE claims SET lease_until = now() - interval '1 second' WHERE id IN"
                " (SELECT id FROM claims WHERE random() < 0.1 FOR UPDATE SKIP LOCKED)"
            )
            if chance.random() < 0.1:
                connection.execute(
                    "UPDATE batches SET expires_at = now() - interval '1 second' WHERE id = %s AND ended_at IS NULL",
                    [chance.choice(batch_ids)],
                )
        sweep.run()
        # Leases must live for a while, or nothing would be recorded under them.
        time.sleep(0.02)

    for act in (_worker, _worker, _worker, customer, tasks, tasks, sweeper):
        chaos.add(act)
    chaos.run()
    assert min(verbs.values()) > 0, f"a verb was never answered with yes: the test shows nothing: {verbs}"

    _calm(web, database, batch_ids)
    for batch_id in batch_ids:
        check_exact(web, database, batch_id)
    check_events()
    assert one(database, "SELECT max(n) FROM (SELECT count(*) AS n FROM usage_records GROUP BY batch_id, seq) x") == (
        1,
    )


def _calm(web: WebClient, database: psycopg.Connection, batch_ids: list[UUID]) -> None:
    """From here on nothing breaks, the customer lets all go on, and what is open ends by the usual means alone."""
    for batch_id in batch_ids:
        web.post(f"/v1/batches/{ids.show('batch_', batch_id)}/resume")
    for _ in range(60):
        database.execute("UPDATE claims SET lease_until = now() - interval '1 second'")
        sweep.run()
        for batch_id in batch_ids:
            retrying.retry(batch_id)
            closing.close(batch_id)
        for claim in take(rows=200):
            record(work.outcomes(claim))
        if not database.execute("SELECT 1 FROM batches WHERE ended_at IS NULL").fetchall():
            return
    left = "SELECT state, total, cursor, returned, succeeded, failed, cancelled, expired, retrying FROM batches"
    pytest.fail(f"not every batch ended: {database.execute(left).fetchall()}")
