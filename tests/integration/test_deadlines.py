"""Single jobs with a time of their own: what is not finished in it expires, and lets go of what it held."""

from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from common import accounts, ids
from common.audit import COMMAND_LINE
from common.database import owner_engine
from tests import work
from tests.databases import one
from tests.exact import check_counters_are_sums
from tests.web_client import WebClient, refused
from worker import expiry, leases, sweep
from worker.outcomes import record

SHORT = {"model": "gpt-4o-mini", "prompt": "Hi"}
FULL = {"endpoint": "/v1/completions", "body": {"model": "gpt-4o-mini", "prompt": "Hi"}}


def submit(web: WebClient, sent: dict[str, Any] | None = None, **fields: Any) -> UUID:
    answer = web.post("/v1/jobs", json=(sent or SHORT) | fields)
    assert answer.status_code == 202, answer.text
    return UUID(answer.get_json()["id"].removeprefix("job_"))


def shown(web: WebClient, job_id: UUID) -> dict[str, Any]:
    found: dict[str, Any] = web.get(f"/v1/jobs/{ids.show('job_', job_id)}").get_json()
    return found


def make_due(database: psycopg.Connection) -> None:
    database.execute("UPDATE batches SET expires_at = now() - interval '1 ms' WHERE expires_at IS NOT NULL")


def held(database: psycopg.Connection) -> tuple[object, ...]:
    return one(database, "SELECT sum(reserved), sum(cost_reserved) FROM quotas")


@pytest.mark.parametrize("sent", [SHORT, FULL])
def test_a_job_shows_when_it_expires(web: WebClient, sent: dict[str, Any]) -> None:
    answer = web.post("/v1/jobs", json=sent | {"expires_in": 60.0}).get_json()
    assert answer["expires_at"] == pytest.approx(answer["created_at"] + 60, abs=0.002)
    assert web.get(f"/v1/jobs/{answer['id']}").get_json()["expires_at"] == answer["expires_at"]
    assert web.post("/v1/jobs", json=sent).get_json()["expires_at"] is None


@pytest.mark.parametrize("seconds", [0, -1, 604_801, 1.5, "60", True, [], 10**30])
@pytest.mark.parametrize("sent", [SHORT, FULL])
def test_a_time_that_cannot_be_is_refused(web: WebClient, sent: dict[str, Any], seconds: object) -> None:
    assert refused(web.post("/v1/jobs", json=sent | {"expires_in": seconds}), 400)["param"] == "expires_in"


def test_a_job_that_never_began_expires_and_holds_nothing(web: WebClient, database: psycopg.Connection) -> None:
    late, other = submit(web, expires_in=60), submit(web)
    sweep.run()
    assert shown(web, late)["status"] == "queued"
    make_due(database)
    sweep.run()
    job = shown(web, late)
    assert (job["status"], job["error"]["code"], job["attempts"], job["cost"]) == ("expired", "job_expired", 0, None)
    assert one(database, "SELECT state FROM batches WHERE id = %s", late) == ("expired",)
    assert shown(web, other)["status"] == "queued"
    (claim,) = work.all_claims()
    assert claim.batch_id == other
    record(work.outcomes(claim))
    assert held(database) == (0, 0)
    check_counters_are_sums(database)
    assert [listed["id"] for listed in web.get("/v1/jobs", status="expired").get_json()["data"]] == [job["id"]]


def test_any_number_of_jobs_expires_in_one_pass_and_each_account_s_holds_with_them(
    web: WebClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "AT_ONCE", 7)
    other = WebClient()
    for of in (web, other):
        for _ in range(10):
            submit(of, expires_in=60)
    make_due(database)
    sweep.run()
    assert one(database, "SELECT count(*) FROM results WHERE error_code = 'job_expired'") == (20,)
    assert held(database) == (0, 0)
    check_counters_are_sums(database)


def test_a_paused_account_s_jobs_expire_too(web: WebClient, database: psycopg.Connection) -> None:
    submit(web, expires_in=60)
    accounts.suspend(COMMAND_LINE, web.caller.account_id, "unpaid")
    make_due(database)
    sweep.run()
    assert one(database, "SELECT state FROM batches") == ("expired",)
    assert held(database) == (0, 0)


def test_a_claim_carries_the_time_that_is_left_and_the_holder_s_word_ends_the_job(
    web: WebClient, database: psycopg.Connection
) -> None:
    job_id = submit(web, expires_in=60)
    (claim,) = work.take()
    assert claim.ends_at is not None
    make_due(database)
    # The worker drops its call by itself, before or after the sweep comes by.
    record([work.outcome(claim, 0, "expired", error_code="job_expired")])
    sweep.run()
    job = shown(web, job_id)
    assert (job["status"], job["error"]["code"]) == ("expired", "job_expired")
    assert one(database, "SELECT state FROM batches") == ("expired",)
    assert held(database) == (0, 0)


def test_a_job_whose_worker_died_expires_once_its_lease_is_over(web: WebClient, database: psycopg.Connection) -> None:
    job_id = submit(web, expires_in=60)
    (claim,) = work.take()
    make_due(database)
    sweep.run()
    assert one(database, "SELECT state FROM batches") == ("expiring",)
    leases.give_back([claim.key])
    work.close(job_id)
    assert shown(web, job_id)["error"]["code"] == "job_expired"
    assert one(database, "SELECT state FROM batches") == ("expired",)
    # Nobody hears the one that comes back.
    record(work.outcomes(claim))
    assert shown(web, job_id)["status"] == "expired"
    assert held(database) == (0, 0)
    check_counters_are_sums(database)


def test_a_job_that_ended_in_time_stays_so(web: WebClient, database: psycopg.Connection) -> None:
    job_id = submit(web, expires_in=60)
    (claim,) = work.take()
    record(work.outcomes(claim))
    make_due(database)
    sweep.run()
    assert shown(web, job_id)["status"] == "completed"


def test_looking_for_what_is_due_reads_what_is_due_alone(web: WebClient, database: psycopg.Connection) -> None:
    database.execute(
        "INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, state, total, expires_at)"
        " SELECT gen_random_uuid(), %s, %s, 'pro', 'single', '/v1/completions', 'in_progress', 1,"
        " CASE WHEN n %% 2 = 0 THEN now() + interval '1 hour' END FROM generate_series(1, 20000) AS n",
        [web.caller.account_id, web.caller.key_id],
    )
    submit(web, expires_in=60)
    database.execute("UPDATE batches SET expires_at = now() WHERE kind = 'single' AND reserved_tokens > 0")
    database.execute("ANALYZE batches")
    with owner_engine().begin() as connection:
        explained = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {expiry.DUE}"), {"limit": 500})
        scan = explained.scalar_one()[0]["Plan"]
    while "Plans" in scan:
        (scan,) = scan["Plans"]
    assert scan["Index Name"] == "batches_due"
    assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) <= 1
