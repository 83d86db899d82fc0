"""Where a batch that waits stands: what is served before it, and nothing more about whom."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from common import batches, ids
from common.batch_pauses import pause
from common.database import read_account
from tests import work
from tests.databases import one
from tests.web_client import WebClient
from worker.outcomes import record


def position(web: WebClient, batch_id: UUID) -> dict[str, Any] | None:
    found: dict[str, Any] | None = web.batch(batch_id)["queue_position"]
    return found


def test_a_batch_that_nobody_is_before_is_at_nought(web: WebClient) -> None:
    assert position(web, work.bulk(web.caller, 3)) == {"accounts": 0, "rows": 0}


def test_accounts_that_are_served_before_count_with_a_claim_of_their_rows(
    web: WebClient, database: psycopg.Connection
) -> None:
    others = [work.caller() for _ in range(3)]
    work.bulk(others[0], 300)
    work.bulk(others[1], 3)
    work.single(others[1])
    work.bulk(others[2], 9)
    work.bulk(work.caller("team"), 9)
    batch_id = work.bulk(web.caller, 3)
    # The last is served after it.
    for virtual_time, of in enumerate([others[0], others[1], web.caller, others[2]]):
        database.execute("UPDATE accounts SET virtual_time = %s WHERE id = %s", [virtual_time, of.account_id])
    assert position(web, batch_id) == {"accounts": 2, "rows": 256 + 4}


def test_of_the_own_account_single_jobs_and_batches_whose_turn_is_before_count(web: WebClient) -> None:
    first, second = work.bulk(web.caller, 300), work.bulk(web.caller, 3)
    for _ in range(2):
        work.single(web.caller)
    assert position(web, first) == {"accounts": 0, "rows": 2}
    assert position(web, second) == {"accounts": 0, "rows": 2 + 256}


def test_it_says_truly_who_is_claimed_first(web: WebClient, database: psycopg.Connection) -> None:
    others = [work.caller() for _ in range(4)]
    ours = work.bulk(web.caller, 50)
    for number, of in enumerate(others):
        work.bulk(of, 10 + number)
    for number, account_id in enumerate([others[3].account_id, web.caller.account_id, others[0].account_id]):
        database.execute("UPDATE accounts SET virtual_time = %s WHERE id = %s", [100 + number, account_id])
    told = position(web, ours)
    before = []
    while (claim := work.take(rows=256)[0]).batch_id != ours:
        before.append(claim)
    assert told == {
        "accounts": len({claim.account_id for claim in before}),
        "rows": sum(len(claim.jobs) for claim in before),
    }


def test_what_runs_or_is_paused_or_has_ended_has_no_position(web: WebClient) -> None:
    batch_id = work.bulk(web.caller, 5)
    (claim,) = work.take(rows=2)
    assert position(web, batch_id) is None
    record(work.outcomes(claim))
    # It waits for its next turn.
    assert position(web, batch_id) == {"accounts": 0, "rows": 0}
    pause(web.caller.account_id, ids.show("batch_", batch_id))
    assert position(web, batch_id) is None
    ended = work.bulk(web.caller, 1)
    record([outcome for claim in work.all_claims() for outcome in work.outcomes(claim)])
    assert position(web, ended) is None


def test_a_list_shows_none(web: WebClient) -> None:
    work.bulk(web.caller, 3)
    (listed,) = web.get("/v1/batches").get_json()["data"]
    assert "queue_position" not in listed


def test_nobody_learns_the_position_of_another_s_batch(web: WebClient) -> None:
    theirs = work.bulk(work.caller(), 3)
    query = "SELECT * FROM queue_position(%(batch_id)s, 256, 1000)"
    assert read_account(web.caller.account_id, query, {"batch_id": theirs}) == []


def test_it_costs_no_more_with_many_pending_jobs(web: WebClient, database: psycopg.Connection) -> None:
    batch_id, other = work.bulk(web.caller, 3), work.caller()
    for of in (web.caller, other):
        database.execute(
            "INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, state, total)"
            " SELECT gen_random_uuid(), %s, %s, 'pro', 'single', '/v1/completions', 'in_progress', 1"
            " FROM generate_series(1, 20000)",
            [of.account_id, of.key_id],
        )
    database.execute("UPDATE accounts SET virtual_time = 1 WHERE id = %s", [web.caller.account_id])
    database.execute("ANALYZE batches")
    assert position(web, batch_id) == {"accounts": 1, "rows": 256 + 1_000}
    with database.transaction():
        database.execute("SELECT set_config('batchyard.account_id', %s, true)", [str(web.caller.account_id)])
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM queue_position(%s, 256, 1000)"
        (explained,) = one(database, explain, batch_id)
    assert isinstance(explained, list)
    # A claim's worth of the other's entries and a thousand of its own, of 20,000 each.
    assert 0 < explained[0]["Plan"]["Shared Hit Blocks"] + explained[0]["Plan"]["Shared Read Blocks"] < 4_000


# When it will have ended.


def test_a_batch_that_has_not_begun_promises_no_end(web: WebClient) -> None:
    assert web.batch(work.bulk(web.caller, 3))["estimated_completion_at"] is None


def test_a_batch_that_waits_between_its_turns_goes_by_its_rate_since_it_began(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 20)
    (claim,) = work.take(rows=5)
    record(work.outcomes(claim))
    database.execute(
        "UPDATE batches SET started_at = started_at - interval '100 s', rate_at = rate_at - interval '60 s'"
    )
    batch = batches.get(web.caller.account_id, ids.show("batch_", batch_id))
    assert batch.estimated_completion_at is not None
    # 5 rows in 100 s, and 15 to go.
    assert batch.estimated_completion_at - batch.read_at - timedelta(seconds=300) < timedelta(seconds=2)
    pause(web.caller.account_id, batch.shown_id)
    assert web.batch(batch_id)["estimated_completion_at"] is None
