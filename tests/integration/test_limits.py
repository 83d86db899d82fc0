"""What a customer is told of its limits: all of them, what is left, and when that begins anew."""

import time
from datetime import timedelta
from typing import Any

import psycopg

from common.database import web_engine
from common.plans import OWN_FILE, PRICES, read
from tests import work
from tests.web_client import WebClient
from worker import leases
from worker.outcomes import record


def shown(web: WebClient) -> dict[str, Any]:
    found = web.get("/v1/limits")
    assert found.status_code == 200, found.text
    limits: dict[str, Any] = found.get_json()
    return limits


def test_an_account_that_did_nothing_has_all_of_its_plan_left(web: WebClient) -> None:
    plan, found = read(OWN_FILE)["pro"], shown(web)
    assert found["plan"] == "pro"
    resets_at = found["billing_period"]["end_time"]
    assert timedelta(days=28).total_seconds() <= resets_at - found["billing_period"]["start_time"] <= 31 * 86_400
    limit = plan.tokens_per_month
    assert found["tokens"] == {"limit": limit, "used": 0, "reserved": 0, "remaining": limit, "resets_at": resets_at}
    limit = plan.max_queued_tokens
    assert found["queued_tokens"] == {"limit": limit, "held": 0, "remaining": limit}
    limit = plan.max_running_jobs
    assert found["running_jobs"] == {"limit": limit, "now": 0, "remaining": limit}
    nothing = {"usd": "0", "nano_usd": 0}
    assert found["money"] == {
        "soft_cap": None, "soft_cap_reached_at": None, "hard_cap": None, "used": nothing, "reserved": nothing,
        "remaining": None, "resets_at": resets_at,
    }  # fmt: skip


def test_every_limit_that_applies_is_told_and_an_accounts_own_come_first(
    web: WebClient, database: psycopg.Connection
) -> None:
    plan = read(OWN_FILE)["pro"].model_dump(mode="json", exclude={"name", "weight"} | PRICES)
    began = time.monotonic()
    assert shown(web)["limits"] == plan
    database.execute(
        """UPDATE accounts SET overrides = '{"max_rows": 7, "models": ["sim"], "requests_per_day": 777777}'"""
    )
    found = shown(web)
    took = time.monotonic() - began
    assert found["limits"] == plan | {"max_rows": 7, "models": ["sim"], "requests_per_day": 777_777}
    # This was the second request, and the first under its account's own limit of a day.
    minute, day = {"limit": 60_000, "remaining": 59_998}, {"limit": 10_000_000, "remaining": 9_999_998}
    assert _without_moments(found["requests"], took) == {
        "key": {"per_minute": minute, "per_day": day},
        "account": {"per_minute": minute, "per_day": {"limit": 777_777, "remaining": 777_776}},
    }


def _without_moments(requests: dict[str, Any], took: float) -> dict[str, Any]:
    """The limits by time without the moments at which they have more, which are looked at here: the first request
    was at most so many seconds ago."""
    for of_whom in requests.values():
        assert 60 - took <= of_whom["per_minute"].pop("more_in_seconds") <= 62
        assert 86_400 - took <= of_whom["per_day"].pop("more_in_seconds") <= 89_280
    return requests


QUOTA = """
    INSERT INTO quotas (account_id, period_start, period_end, used, reserved, cost_used, cost_reserved)
    SELECT a.id, p.period_start, p.period_end, %(used)s, %(reserved)s, %(cost_used)s, %(cost_reserved)s
    FROM accounts a, billing_period(a.billing_anchor, now() - make_interval(days => %(days_ago)s)) AS p
    WHERE a.id = %(account_id)s
"""


def take_of_quota(database: psycopg.Connection, of: WebClient | None = None, days_ago: int = 0, **taken: int) -> None:
    amounts = {"used": 0, "reserved": 0, "cost_used": 0, "cost_reserved": 0} | taken
    account_id = (of.caller if of is not None else work.caller()).account_id
    database.execute(QUOTA, amounts | {"days_ago": days_ago, "account_id": account_id})


def test_what_is_used_and_held_is_taken_from_what_is_left(web: WebClient, database: psycopg.Connection) -> None:
    database.execute(
        "UPDATE accounts SET billing_anchor = now() - interval '100 days', soft_cap = 1500000000, hard_cap = 2000000000"
    )
    take_of_quota(database, web, used=1_000, reserved=200, cost_used=400_000_001, cost_reserved=99)
    # Of another period: its jobs still wait, its money was spent then.
    take_of_quota(database, web, days_ago=40, used=77, reserved=30, cost_used=55, cost_reserved=66)
    take_of_quota(database, used=5_000_000, reserved=5_000_000, cost_used=1, cost_reserved=1)
    plan, found = read(OWN_FILE)["pro"], shown(web)
    assert (found["tokens"]["used"], found["tokens"]["reserved"]) == (1_000, 200)
    assert found["tokens"]["remaining"] == plan.tokens_per_month - 1_200
    assert found["queued_tokens"] == {
        "limit": plan.max_queued_tokens, "held": 230, "remaining": plan.max_queued_tokens - 230,
    }  # fmt: skip
    money = {name: amount and amount["usd"] for name, amount in found["money"].items() if "at" not in name}
    assert money == {
        "soft_cap": "1.5", "hard_cap": "2", "used": "0.400000001", "reserved": "0.000000099", "remaining": "1.5999999",
    }  # fmt: skip


def test_what_is_accepted_is_held_until_its_results_say_what_was_used(web: WebClient) -> None:
    job = work.single(web.caller)
    before = shown(web)
    held = before["tokens"]["reserved"]
    assert held == before["queued_tokens"]["held"] > 0 == before["tokens"]["used"]
    work.bulk(web.caller, 3)
    assert shown(web)["tokens"]["reserved"] > held
    for claim in work.all_claims():
        record(work.outcomes(claim, "succeeded" if claim.batch_id == job else "failed"))
    after, usage = shown(web), web.get("/v1/usage").get_json()["billing_period"]
    assert (after["tokens"]["used"], after["money"]["used"]) == (usage["total_tokens"], usage["cost"])
    assert (after["tokens"]["reserved"], after["money"]["reserved"]["nano_usd"]) == (0, 0)
    assert after["queued_tokens"]["held"] == 0
    assert after["tokens"]["remaining"] == after["tokens"]["limit"] - 1_050


def test_what_is_left_is_never_less_than_nothing(web: WebClient, database: psycopg.Connection) -> None:
    """A limit may be lowered under what is used already."""
    take_of_quota(database, web, used=10, reserved=10, cost_used=10, cost_reserved=10)
    database.execute(
        """UPDATE accounts SET hard_cap = 15, overrides = '{"tokens_per_month": 15, "max_queued_tokens": 9}'"""
    )
    found = shown(web)
    assert (found["tokens"]["remaining"], found["queued_tokens"]["remaining"]) == (0, 0)
    assert found["money"]["remaining"] == {"usd": "0", "nano_usd": 0}


def test_jobs_run_from_their_claim_to_their_result(web: WebClient) -> None:
    work.bulk(web.caller, 10)
    work.bulk(work.caller(), 10)
    assert shown(web)["running_jobs"]["now"] == 0
    taken = work.all_claims(rows=10)
    assert shown(web)["running_jobs"]["now"] == 10, "another account's jobs run too"
    (ours,) = (claim for claim in taken if claim.account_id == web.caller.account_id)
    record(work.outcomes(ours)[:4])
    found = shown(web)["running_jobs"]
    assert (found["now"], found["remaining"]) == (6, found["limit"] - 6)
    leases.give_back([ours.key])
    assert shown(web)["running_jobs"]["now"] == 0


def test_without_an_account_no_running_job_is_counted(web: WebClient) -> None:
    work.bulk(web.caller, 3)
    work.all_claims()
    with web_engine().connect() as connection:
        assert connection.exec_driver_sql("SELECT running_jobs()").scalar_one() == 0
