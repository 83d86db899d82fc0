"""An account is told when it has used 50, 80 and 100% of its tokens a month or of its hard cap."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Unpack

import psycopg
import pytest

from common import accounts, ids, queue
from common.accounts import Changes
from common.audit import COMMAND_LINE
from common.keys import Caller
from tests import work
from tests.databases import one
from tests.waiting import wait_for
from worker.claims import Claim
from worker.outcomes import TokenUsage, record

pytestmark = pytest.mark.usefixtures("settings")

MODEL = "gpt-4o-mini"
# What a row uses.
TOKENS = work.USAGE.prompt_tokens + work.USAGE.completion_tokens
BOTH = ("tokens_per_month", "hard_cap")


def change(of: Caller, **changes: Unpack[Changes]) -> None:
    accounts.change(COMMAND_LINE, of.account_id, changes)


def limited(rows: int) -> tuple[Caller, Claim]:
    """An account with work under way, whose limits are used up by so many rows."""
    of = work.caller()
    work.bulk(of, 20, model=MODEL)
    (claim,) = work.take()
    # Lower than admission would have it: no reservation stands against it.
    change(of, overrides={"tokens_per_month": rows * TOKENS}, hard_cap=rows * work.COST)
    return of, claim


def told(database: psycopg.Connection, limit: str = "tokens_per_month") -> list[int]:
    query = "SELECT data ->> 'percent' FROM events WHERE type = 'usage.threshold_reached' AND data ->> 'limit' = %s"
    return [int(percent) for (percent,) in database.execute(query + " ORDER BY id", [limit])]


def test_each_share_of_each_limit_is_told_once(database: psycopg.Connection) -> None:
    of, claim = limited(10)
    outcomes = work.outcomes(claim)
    for ended, expected in enumerate([[]] * 4 + [[50]] * 3 + [[50, 80]] * 2 + [[50, 80, 100]] * 5):
        record([outcomes[ended]])
        assert (ended, told(database), told(database, "hard_cap")) == (ended, expected, expected)
    query = "SELECT account_id, batch_id, data FROM events WHERE type = 'usage.threshold_reached' ORDER BY id"
    events = database.execute(query).fetchall()
    (period_start,) = one(database, "SELECT period_start FROM quotas")
    assert isinstance(period_start, datetime)
    assert all(account_id == of.account_id and batch_id is None for account_id, batch_id, _ in events)
    common: dict[str, Any] = {
        "id": ids.show("acct_", of.account_id), "percent": 50, "period_start": int(period_start.timestamp())
    }  # fmt: skip
    found = {data["limit"]: data for *_, data in events[:2]}
    tokens = {"limit": "tokens_per_month", "used": 5 * TOKENS, "limit_value": 10 * TOKENS}
    money = {"limit": "hard_cap", "used": 5 * work.COST, "limit_value": 10 * work.COST}
    assert found == {"tokens_per_month": common | tokens, "hard_cap": common | money}


def test_of_shares_passed_at_once_the_highest_is_told(database: psycopg.Connection) -> None:
    _, claim = limited(5)
    record(work.outcomes(claim)[:4])
    record(work.outcomes(claim)[4:8])
    assert told(database) == told(database, "hard_cap") == [80, 100]


def test_a_limit_of_the_plan_is_told_as_an_account_s_own_is(database: psycopg.Connection) -> None:
    of = work.caller("free")
    work.bulk(of, 2, model=MODEL)
    (claim,) = work.take("free")
    half = TokenUsage(prompt_tokens=of.limits.tokens_per_month // 2, cached_tokens=0, completion_tokens=0)
    record([work.outcome(claim, 0, usage=half)])
    assert (told(database), told(database, "hard_cap")) == ([50], [])


def test_what_is_told_is_delivered(database: psycopg.Connection) -> None:
    of, claim = limited(2)
    database.execute(
        "INSERT INTO webhook_endpoints (id, account_id, url, event_types, secret)"
        " VALUES (%s, %s, 'https://hooks.example.com/', '{usage.threshold_reached}', 'sealed')",
        [ids.new_id(), of.account_id],
    )
    queue.redis().flushdb()
    record(work.outcomes(claim)[:1])
    assert one(database, "SELECT count(*) FROM deliveries") == (2,)
    assert queue.waiting()[queue.DELIVERIES_QUEUE] == 1


def test_a_new_period_is_told_of_anew(database: psycopg.Connection) -> None:
    of, claim = limited(2)
    record(work.outcomes(claim))
    database.execute("UPDATE accounts SET billing_anchor = clock_timestamp(), overrides = '{}', hard_cap = NULL")
    work.bulk(work.caller_of(of.account_id), 2, model=MODEL)
    database.execute("UPDATE accounts SET overrides = %s::jsonb", [json.dumps({"tokens_per_month": 2 * TOKENS})])
    (claim,) = work.take()
    record(work.outcomes(claim)[:1])
    assert told(database) == [100, 50]


def test_a_raised_limit_is_told_again_from_what_is_used_of_it(database: psycopg.Connection) -> None:
    of, claim = limited(4)
    outcomes = work.outcomes(claim)
    record(outcomes[:4])
    change(of, overrides={"tokens_per_month": 8 * TOKENS}, hard_cap=20 * work.COST)
    record(outcomes[4:5])
    assert told(database) == told(database, "hard_cap") == [100]
    record(outcomes[5:7])
    assert told(database) == [100, 80]
    record(outcomes[7:10])
    assert (told(database), told(database, "hard_cap")) == ([100, 80, 100], [100, 50])


def test_a_limit_that_was_taken_away_and_is_back_is_told_again(database: psycopg.Connection) -> None:
    of, claim = limited(4)
    outcomes = work.outcomes(claim)
    record(outcomes[:2])
    change(of, hard_cap=None, overrides={"tokens_per_month": None})
    record(outcomes[2:3])
    change(of, hard_cap=6 * work.COST)
    record(outcomes[3:4])
    assert (told(database), told(database, "hard_cap")) == ([50], [50, 50])


def test_a_lowered_limit_is_told_with_the_next_result(database: psycopg.Connection) -> None:
    of, claim = limited(10)
    outcomes = work.outcomes(claim)
    record(outcomes[:5])
    change(of, overrides={"tokens_per_month": 6 * TOKENS})
    assert told(database) == [50]
    record(outcomes[5:6])
    assert (told(database), told(database, "hard_cap")) == ([50, 100], [50])


def test_a_flush_that_waits_while_a_limit_is_raised_goes_by_the_new_one(
    settings: dict[str, str], database: psycopg.Connection
) -> None:
    of, claim = limited(4)
    outcomes = work.outcomes(claim)
    record(outcomes[:1])
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as threads:
        with psycopg.connect(settings["DATABASE_URL"]) as holder:
            holder.execute("SELECT 1 FROM quotas FOR UPDATE")
            raising = threads.submit(change, of, overrides={"tokens_per_month": 40 * TOKENS}, hard_cap=40 * work.COST)
            wait_for(lambda: one(database, waiting), lambda found: found == (1,))
            recording = threads.submit(record, outcomes[1:4])
            wait_for(lambda: one(database, waiting), lambda found: found == (2,))
        raising.result()
        recording.result()
    assert told(database) == told(database, "hard_cap") == []
    assert one(database, "SELECT told_of_tokens, told_of_cost FROM quotas") == (0, 0)


def test_accounts_of_one_group_are_told_each_of_its_own(database: psycopg.Connection) -> None:
    first, second = limited(10), limited(10)
    record(work.outcomes(first[1])[:5] + work.outcomes(second[1])[:8])
    query = "SELECT account_id, data ->> 'percent' FROM events WHERE data ->> 'limit' = 'hard_cap' ORDER BY account_id"
    expected = sorted([(first[0].account_id, "50"), (second[0].account_id, "80")])
    assert database.execute(query).fetchall() == expected
