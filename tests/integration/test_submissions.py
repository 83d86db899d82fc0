"""Jobs of one account that come at once: stored together, each with its own outcome."""

from concurrent.futures import Future, ThreadPoolExecutor, wait

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from common import jobs
from common.errors import QuotaExceeded
from common.keys import Caller
from common.settings import settings
from tests import work
from tests.databases import one
from tests.exact import check_quotas_are_sums
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("settings")

AT_ONCE = 12
BODY = {"model": "sim", "prompt": "Hi", "max_tokens": 100}


def submit(caller: Caller) -> jobs.Job:
    return jobs.submit(caller, "/v1/completions", BODY, {"of": caller.plan})


def submitted_at_once(caller: Caller, threads: ThreadPoolExecutor) -> list["Future[jobs.Job]"]:
    """Jobs of which the first waits for the account's quota, which is locked, and the others for the first."""
    with psycopg.connect(settings().database_url) as holder:
        holder.execute("SELECT 1 FROM quotas WHERE account_id = %s FOR UPDATE", [caller.account_id])
        sent = [threads.submit(submit, caller)]
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with psycopg.connect(settings().database_url, autocommit=True) as looking:
            wait_for(lambda: one(looking, waiting), lambda found: found == (1,))
            sent += [threads.submit(submit, caller) for _ in range(AT_ONCE - 1)]
            # In this process they wait, and not in PostgreSQL.
            assert not wait(sent, timeout=0.3).done
            assert one(looking, waiting) == (1,)
    return sent


def test_jobs_that_come_while_one_is_stored_are_stored_together(database: psycopg.Connection) -> None:
    caller = work.caller()
    submit(caller)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        accepted = [future.result(timeout=10) for future in submitted_at_once(caller, threads)]
    assert len({job.batch_id for job in accepted}) == AT_ONCE
    stored = database.execute(
        "SELECT b.id, b.created_at, j.custom_id, b.metadata FROM batches b JOIN jobs j ON j.batch_id = b.id"
    ).fetchall()
    found = {batch_id: (created_at, custom_id, metadata) for batch_id, created_at, custom_id, metadata in stored}
    for job in accepted:
        assert found[job.batch_id] == (job.created_at, job.shown_id, {"of": "pro"})
    # The first alone, then all that waited in one transaction.
    assert len({job.created_at for job in accepted}) == 2
    check_quotas_are_sums(database)


def test_where_not_all_fit_those_that_do_are_accepted(database: psycopg.Connection) -> None:
    caller = work.caller()
    submit(caller)
    (tokens,) = one(database, "SELECT tokens FROM jobs")
    assert isinstance(tokens, int)
    database.execute(
        "UPDATE accounts SET overrides = jsonb_build_object('max_queued_tokens', %s::bigint) WHERE id = %s",
        [6 * tokens, caller.account_id],
    )
    small = work.caller_of(caller.account_id)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        outcomes = [future.exception(timeout=10) for future in submitted_at_once(small, threads)]
    assert sum(error is None for error in outcomes) == 5
    assert sum(isinstance(error, QuotaExceeded) for error in outcomes) == AT_ONCE - 5
    assert one(database, "SELECT count(*) FROM jobs") == (6,)
    check_quotas_are_sums(database)


def test_when_the_database_goes_away_all_of_them_hear_of_it_and_the_next_is_stored(
    database: psycopg.Connection,
) -> None:
    caller = work.caller()
    submit(caller)
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'batchyard_web'"
    kill += " AND datname = current_database()"
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with psycopg.connect(settings().database_url) as holder:
            holder.execute("SELECT 1 FROM quotas FOR UPDATE")
            sent = [threads.submit(submit, caller) for _ in range(AT_ONCE)]
            assert not wait(sent, timeout=0.3).done
            database.execute(kill)
        errors = [future.exception(timeout=10) for future in sent]
    assert any(isinstance(error, OperationalError) for error in errors)
    assert all(error is None or isinstance(error, OperationalError) for error in errors)
    submit(caller)
    accepted = 2 + sum(error is None for error in errors)
    assert one(database, "SELECT count(*) FROM jobs") == (accepted,)
    check_quotas_are_sums(database)


@pytest.mark.parametrize("state", ["in_progress", "paused", "cancelling", "expiring"])
@pytest.mark.parametrize(("cursor", "returned"), [(0, 0), (1, 0), (1, 1)])
def test_a_job_is_listed_under_the_status_that_it_shows(
    database: psycopg.Connection, state: str, cursor: int, returned: int
) -> None:
    caller = work.caller()
    job = submit(caller)
    reason = "spend_cap" if state == "paused" else None
    database.execute(
        "UPDATE batches SET state = %s, cursor = %s, returned = %s, paused_reason = %s",
        [state, cursor, returned, reason],
    )
    shown = jobs.get(caller.account_id, job.shown_id).status
    found = {
        status: [listed.shown_id for listed in jobs.list_single(caller.account_id, status, None, 10)]
        for status in jobs.STATUSES
    }
    assert found == {status: [job.shown_id] if status == shown else [] for status in jobs.STATUSES}
