"""What is told of an account's usage: which receipts count, how they are grouped, and which questions are refused."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from common import ids, keys
from common.keys import Caller
from common.money import Price
from tests import work
from tests.web_client import WebClient, refused
from worker.outcomes import record

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NOTHING = {
    "requests": 0, "requests_without_price": 0, "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0,
    "total_tokens": 0, "cost": {"usd": "0", "nano_usd": 0},
}  # fmt: skip


def unix(moment: datetime) -> int:
    return int(moment.timestamp())


def used(moments: list[datetime], of: Caller, **fields: Any) -> UUID:
    """A batch with a receipt of each of these moments."""
    batch_id = work.requests(of, [work.request(number) for number in range(len(moments))])
    for claim in work.all_claims():
        record([work.outcome(claim, job.seq, finished_at=moments[job.seq], **fields) for job in claim.jobs])
    return batch_id


def shown(web: WebClient, **query: str | int) -> dict[str, Any]:
    found = web.get("/v1/usage", **query)
    assert found.status_code == 200, found.text
    usage: dict[str, Any] = found.get_json()
    return usage


def requests(web: WebClient, **query: str | int) -> int:
    """How many receipts a range has."""
    found = shown(web, **query)
    assert found["total"] == {name: found["data"][0][name] for name in NOTHING}
    count = found["total"]["requests"]
    assert isinstance(count, int)
    return count


def test_an_account_that_used_nothing_is_told_zeros(web: WebClient) -> None:
    used([MIDNIGHT], work.caller())
    found = shown(web)
    assert set(found) == {"object", "billing_period", "last_24_hours", "all_time"}
    for span in ("billing_period", "last_24_hours", "all_time"):
        assert found[span] | {"start_time": None, "end_time": None} == NOTHING | {"start_time": None, "end_time": None}
    everything = shown(web, start_time=0)
    assert (everything["total"], everything["data"]) == (NOTHING, [NOTHING | {"object": "usage.bucket"}])
    grouped = shown(web, start_time=0, group_by="day,batch_id")
    assert (grouped["total"], grouped["data"], grouped["has_more"], grouped["next_page"]) == (NOTHING, [], False, None)


def test_totals_are_of_the_billing_period_of_the_last_24_hours_and_of_all_time(
    web: WebClient, database: psycopg.Connection
) -> None:
    now = datetime.now(UTC)
    database.execute("UPDATE accounts SET billing_anchor = %s", [now - timedelta(days=10)])
    ages = (timedelta(), timedelta(hours=23, minutes=59), timedelta(hours=24, minutes=1), timedelta(days=11))
    used([now - age for age in ages], web.caller)
    found = shown(web)
    counts = {span: found[span]["requests"] for span in ("billing_period", "last_24_hours", "all_time")}
    assert counts == {"billing_period": 3, "last_24_hours": 2, "all_time": 4}
    assert found["billing_period"]["start_time"] == unix(now - timedelta(days=10))
    assert unix(now) < found["billing_period"]["end_time"] <= unix(now + timedelta(days=21))
    assert found["all_time"]["cost"]["nano_usd"] == 4 * work.COST
    # The range that an answer names is the range that was summed.
    again = requests(web, start_time=found["last_24_hours"]["start_time"])
    assert again == found["last_24_hours"]["requests"]


def test_a_range_holds_its_first_moment_and_not_its_last(web: WebClient) -> None:
    used([MIDNIGHT - MICROSECOND, MIDNIGHT, MIDNIGHT + timedelta(days=1) - MICROSECOND], web.caller)
    first, second = unix(MIDNIGHT), unix(MIDNIGHT + timedelta(days=1))
    assert requests(web, start_time=first, end_time=second) == 2
    assert requests(web, start_time=0, end_time=first) == 1
    assert requests(web, start_time=second, end_time=second + 1) == 0
    assert requests(web, start_time=first) == 2
    found = shown(web, start_time=first, end_time=second)
    assert (found["start_time"], found["end_time"], found["group_by"]) == (first, second, [])


def test_without_a_start_a_range_begins_with_the_billing_period(web: WebClient, database: psycopg.Connection) -> None:
    database.execute("UPDATE accounts SET billing_anchor = date_trunc('second', now())")
    (start,) = database.execute("SELECT billing_anchor FROM accounts").fetchone() or ()
    used([start - MICROSECOND, start], web.caller)
    assert shown(web, group_by="model")["total"]["requests"] == 1
    assert shown(web, limit=1)["start_time"] == unix(start)


def test_days_are_those_of_utc(web: WebClient) -> None:
    used([MIDNIGHT - MICROSECOND, MIDNIGHT, MIDNIGHT + timedelta(hours=23, minutes=59, seconds=59.999999)], web.caller)
    days = {bucket["day"]: bucket["requests"] for bucket in shown(web, start_time=0, group_by="day")["data"]}
    assert days == {"2026-02-28": 1, "2026-03-01": 2}


def test_usage_is_filtered_by_model_key_and_batch(web: WebClient) -> None:
    other_key = keys.authenticate(keys.create(web.caller.account_id, "other"))
    first = used([MIDNIGHT] * 2, web.caller, model="a")
    second = used([MIDNIGHT] * 3, other_key, model="b")
    third = used([MIDNIGHT] * 4, other_key, model="a")
    batch = {batch_id: ids.show("batch_", batch_id) for batch_id in (first, second, third)}
    own, other = (ids.show("key_", caller.key_id) for caller in (web.caller, other_key))
    wanted: list[tuple[dict[str, str], int]] = [
        ({"model": "a"}, 6), ({"model": "b"}, 3), ({"model": "A"}, 0), ({"api_key_id": own}, 2),
        ({"api_key_id": other}, 7), ({"batch_id": batch[second]}, 3), ({"api_key_id": other, "model": "a"}, 4),
        ({"api_key_id": own, "batch_id": batch[third]}, 0), ({"batch_id": "batch_" + "0" * 32}, 0),
    ]  # fmt: skip
    for filters, count in wanted:
        assert requests(web, start_time=0, **filters) == count, filters
        assert shown(web, **filters)["all_time"]["requests"] == count, filters
        buckets = shown(web, start_time=0, group_by="day,model", **filters)["data"]
        assert sum(bucket["requests"] for bucket in buckets) == count, filters


def test_single_jobs_have_one_bucket_together_among_the_batches(web: WebClient) -> None:
    batch_id = used([MIDNIGHT] * 2, web.caller)
    for _ in range(3):
        work.single(web.caller)
    for claim in work.all_claims():
        record(work.outcomes(claim))
    buckets = shown(web, start_time=0, group_by="batch_id")["data"]
    assert [(bucket["batch_id"], bucket["requests"]) for bucket in buckets] == [
        (None, 3), (ids.show("batch_", batch_id), 2),
    ]  # fmt: skip


def test_requests_for_models_without_a_price_are_counted_apart(web: WebClient) -> None:
    used([MIDNIGHT] * 2, web.caller, price=None)
    used([MIDNIGHT], web.caller, price=Price(0, 0, 0))
    used([MIDNIGHT], web.caller)
    total = shown(web, start_time=0)["total"]
    assert (total["requests"], total["requests_without_price"]) == (4, 2)
    assert total["cost"]["nano_usd"] == work.COST
    assert total["total_tokens"] == 4 * 1_050


def test_groups_may_be_sent_as_a_list_in_any_of_its_ways_and_stay_in_their_order(web: WebClient) -> None:
    used([MIDNIGHT], web.caller)
    ways = ("group_by=model,day", "group_by=model&group_by=day", "group_by[]=model&group_by[]=day")
    answers = [web.request("GET", f"/v1/usage?start_time=0&{way}").get_json() for way in ways]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["group_by"] == ["model", "day"]
    assert answers[0]["data"][0] == {
        "object": "usage.bucket", "model": "sim", "day": "2026-03-01", "requests": 1, "requests_without_price": 0,
        "prompt_tokens": 1_000, "cached_tokens": 400, "completion_tokens": 50, "total_tokens": 1_050,
        "cost": {"usd": "0.00015", "nano_usd": work.COST},
    }  # fmt: skip


def test_a_page_goes_on_where_the_one_before_ended_whatever_comes_in_between(web: WebClient) -> None:
    used([MIDNIGHT + timedelta(days=day) for day in range(0, 10, 2)], web.caller)
    first = shown(web, start_time=0, group_by="day", limit=2)
    used([MIDNIGHT - timedelta(days=1), MIDNIGHT + timedelta(days=5)], web.caller)
    second = shown(web, start_time=0, group_by="day", limit=2, page=first["next_page"])
    days = [[bucket["day"][-2:] for bucket in page["data"]] for page in (first, second)]
    assert days == [["01", "03"], ["05", "06"]]
    assert (first["total"]["requests"], second["total"]["requests"]) == (5, 7)


def test_another_accounts_usage_never_shows(web: WebClient, database: psycopg.Connection) -> None:
    theirs = work.caller()
    their_batch = used([datetime.now(UTC)] * 3, theirs)
    used([datetime.now(UTC)], web.caller)
    assert shown(web)["all_time"]["requests"] == shown(web)["last_24_hours"]["requests"] == 1
    grouped = shown(web, start_time=0, group_by="api_key_id,batch_id")
    assert grouped["total"]["requests"] == 1
    assert [bucket["api_key_id"] for bucket in grouped["data"]] == [ids.show("key_", web.caller.key_id)]
    assert requests(web, start_time=0, batch_id=ids.show("batch_", their_batch)) == 0
    assert requests(web, start_time=0, api_key_id=ids.show("key_", theirs.key_id)) == 0


def cursor(*named: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(named).encode()).decode()


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("start_time=yesterday", "start_time"),
        ("start_time=", "start_time"),
        ("start_time=-1", "start_time"),
        ("start_time=1.5", "start_time"),
        ("start_time=1772323200000", "start_time"),
        ("start_time=%D9%A1", "start_time"),
        ("start_time=1&start_time=2", "start_time"),
        ("end_time=2026-03-01", "end_time"),
        ("end_time=1", "end_time"),
        ("start_time=10&end_time=10", "end_time"),
        ("start_time=10&end_time=9", "end_time"),
        ("group_by=", "group_by"),
        ("group_by=hour", "group_by"),
        ("group_by=day,", "group_by"),
        ("group_by=day,day", "group_by"),
        ("group_by=day&group_by[]=day", "group_by"),
        ("group_by[0]=day", "group_by[0]"),
        ("model=", "model"),
        ("model=%00", "model"),
        ("model=" + "x" * 201, "model"),
        ("api_key_id=1", "api_key_id"),
        ("api_key_id=batch_" + "0" * 32, "api_key_id"),
        ("batch_id=%00", "batch_id"),
        ("start_time=1&batch_id=job_" + "0" * 32, "batch_id"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=all", "limit"),
        ("page=", "page"),
        ("page=x", "page"),
        ("page=%C3%BC", "page"),
        ("group_by=day&page=" + cursor("model", "sim"), "page"),
        ("group_by=day&page=" + cursor("day"), "page"),
        ("group_by=day&page=" + cursor("day", 1), "page"),
        ("group_by=day&page=" + cursor("day", "\0"), "page"),
        ("group_by=day&page=" + cursor({"day": "x"}), "page"),
        ("group_by=day&page=" + cursor([[]], "x"), "page"),
        ("grup_by=day", "grup_by"),
        ("models=sim", "models"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_naming_the_parameter(
    web: WebClient, query: str, param: str
) -> None:
    error = refused(web.request("GET", f"/v1/usage?{query}"), 400)
    assert error["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize("named", ["", "zzzz", "2026", "\u00fc", "0" * 5_000])
def test_a_page_that_nobody_gave_out_is_no_way_to_anything(web: WebClient, named: str) -> None:
    used([MIDNIGHT], work.caller())
    found = shown(web, start_time=0, group_by="day,batch_id", page=cursor("day", "batch_id", named, named))
    assert (found["data"], found["total"]) == ([], NOTHING)


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/limits"])
def test_a_key_without_the_scope_usage_is_told_nothing(web: WebClient, database: psycopg.Connection, path: str) -> None:
    database.execute("UPDATE api_keys SET scopes = array_remove(scopes, 'usage')")
    error = refused(web.get(path), 403)
    assert error["code"] == "scope_missing"
    assert "'usage'" in error["message"]
