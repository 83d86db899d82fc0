"""Settling in any order, any number of times: what is held and used is always a sum of receipts and of open jobs, and
each end is told once."""

import contextlib
import random
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from common import batch_pauses, batches, ids
from common.errors import Conflict, QuotaExceeded
from common.keys import Caller
from common.submission_webhooks import Webhook
from tests import work
from tests.databases import one
from tests.exact import check_counters_are_sums, check_events
from tests.integration.test_reservations import MODEL, cap, submit
from tests.work import take
from worker import closing, expiry, leases, retrying
from worker.claims import Claim
from worker.outcomes import record

pytestmark = pytest.mark.usefixtures("settings")

URL = "https://hooks.example.com/"


@pytest.mark.parametrize("seed", range(8))
def test_sums_hold_after_every_step_of_a_random_life(seed: int, database: psycopg.Connection) -> None:
    chance = random.Random(seed)
    database.execute("""
        CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''crash''; END';
        CREATE TRIGGER crash BEFORE UPDATE ON quotas EXECUTE FUNCTION crash();
        ALTER TABLE quotas DISABLE TRIGGER crash;
    """)
    callers = [work.caller(), cap(database, work.caller(), 10**12)]
    held_claims: list[Claim] = []
    batch_ids = [work.bulk(callers[0], 3, model=MODEL)]

    def make() -> None:
        of = chance.choice(callers)
        if chance.random() < 0.5:
            submit(of, webhook=chance.choice([None, Webhook(URL), Webhook(URL, ["job.failed"])]))
        else:
            max_cost = chance.choice([None, 200_000, 10**12])
            batch_ids.append(work.bulk(of, chance.randrange(1, 12), model=MODEL, max_cost=max_cost))

    def claim() -> None:
        held_claims.extend(take(rows=chance.randrange(1, 6)))

    def finish() -> None:
        for found in held_claims:
            kinds = [chance.choice(["succeeded", "failed"]) for _ in found.jobs]
            outcomes = [work.outcome(found, job.seq, kind) for job, kind in zip(found.jobs, kinds, strict=True)]
            record(chance.sample(outcomes, chance.randrange(len(outcomes) + 1)))
            # Settled twice: after a lost connection a group is recorded again.
            record(outcomes[: chance.randrange(len(outcomes) + 1)])

    def die() -> None:
        leases.give_back({found.key for found in held_claims})
        if chance.random() < 0.5:
            held_claims.clear()

    def crash_between() -> None:
        # Results are written, and the transaction dies when it comes to the quota.
        database.execute("ALTER TABLE quotas ENABLE TRIGGER crash")
        for found in held_claims:
            with contextlib.suppress(DBAPIError):
                record(work.outcomes(found))
        database.execute("ALTER TABLE quotas DISABLE TRIGGER crash")

    def cancel() -> None:
        batch_id = chance.choice(batch_ids)
        database.execute(
            "UPDATE batches SET state = 'cancelling', cancelling_at = now(), paused_reason = NULL,"
            " pause_requested_at = NULL WHERE id = %s AND state IN ('in_progress', 'paused')",
            [batch_id],
        )
        closing.close(batch_id)

    def chosen() -> tuple[Caller, UUID]:
        batch_id = chance.choice(batch_ids)
        owner = one(database, "SELECT account_id FROM batches WHERE id = %s", batch_id)[0]
        return next(caller for caller in callers if caller.account_id == owner), batch_id

    def retry() -> None:
        caller, batch_id = chosen()
        try:
            batches.retry(caller, ids.show("batch_", batch_id))
        except (Conflict, QuotaExceeded):
            return
        retrying.retry(batch_id)

    def change_cap() -> None:
        caller, batch_id = chosen()
        try:
            batches.set_max_cost(caller, ids.show("batch_", batch_id), chance.choice([None, 100_000, 10**9]))
        except (Conflict, QuotaExceeded):
            return

    def pause() -> None:
        caller, batch_id = chosen()
        verb = chance.choice([batch_pauses.pause, batch_pauses.resume])
        with contextlib.suppress(Conflict):
            verb(caller.account_id, ids.show("batch_", batch_id))

    def expire() -> None:
        database.execute(
            "UPDATE batches SET expires_at = now() - interval '1 second' WHERE id = %s AND ended_at IS NULL"
            " OR kind = 'single' AND ended_at IS NULL AND random() < 0.3",
            [chance.choice(batch_ids)],
        )
        expiry.expire()
        for (batch_id,) in database.execute("SELECT id FROM batches WHERE state = 'expiring'").fetchall():
            closing.close(batch_id)

    acts: list[Callable[[], None]] = [
        make, claim, finish, die, crash_between, cancel, retry, change_cap, pause, pause, expire,
    ]  # fmt: skip
    for _ in range(40):
        chance.choice([*acts, claim, finish])()
        check_counters_are_sums(database)
        check_events()
