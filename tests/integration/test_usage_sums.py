"""What usage tells is the sum of the receipts, to the nano-dollar, however it is grouped and whatever happened."""

from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from itertools import combinations
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from common import batches, ids, keys
from common.errors import Conflict, NotFound
from common.keys import Caller
from common.money import Price
from common.usage import GROUPS
from tests import work
from tests.exact import check_counters_are_sums
from tests.web_client import WebClient, own_logging
from worker import closing, leases
from worker.claims import Claim
from worker.outcomes import Outcome, TokenUsage, record

# The first is a round one; the others make costs that are rounded up, or are nothing.
PRICES = (work.PRICE, Price(37_500_000, 3_333_333, 1), Price(1, 0, 999_999), Price(0, 0, 0), None)
MODELS = ("sim", "Sim", "sim-2", "\u00fcber", "org/model:v1")
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
MOMENTS = [MIDNIGHT + timedelta(days=days, milliseconds=offset) for days in range(3) for offset in (-1, 0, 1)]
SUMS = ("requests", "requests_without_price", "prompt_tokens", "cached_tokens", "completion_tokens", "total_tokens")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_receipts_batches_and_usage_by_every_grouping_have_the_same_sums(
    database: psycopg.Connection, seed: int
) -> None:
    chance = Random(seed)
    with own_logging():
        web = WebClient()
    callers = [web.caller, keys.authenticate(keys.create(web.caller.account_id, "another"))]
    ours = {_batch(chance, caller): caller for caller in callers for _ in range(chance.randint(0, 3))}
    theirs = [_batch(chance, work.caller()) for _ in range(2)]
    _run(chance, [*ours, *theirs], callers)
    check_counters_are_sums(database)

    receipts = [receipt for batch_id, caller in ours.items() for receipt in _receipts(web, batch_id, caller)]
    for receipt in receipts:
        _check_cost(receipt)
    for number in range(len(GROUPS) + 1):
        for groups in combinations(GROUPS, number):
            _check_grouping(web, groups, receipts)
    assert _sums_in(web.get("/v1/usage").get_json()["all_time"]) == _sums_of(receipts)


def _batch(chance: Random, caller: Caller) -> UUID:
    if chance.random() < 0.3:
        return work.single(caller)
    return work.requests(caller, [work.request(number) for number in range(chance.randint(1, 6))])


def _run(chance: Random, batch_ids: list[UUID], callers: list[Caller]) -> None:
    """Workers until nothing is left; now and then one dies, or a customer cancels."""
    while taken := work.take(rows=chance.randint(1, 9)):
        for claim in taken:
            _work(chance, claim)
        if chance.random() < 0.2:
            batch_id = chance.choice(batch_ids)
            with suppress(Conflict, NotFound):
                batches.cancel(callers[0].account_id, ids.show("batch_", batch_id))
            closing.close(batch_id)


def _work(chance: Random, claim: Claim) -> None:
    """Records the claim's outcomes in groups, or half of them and dies."""
    dies = chance.random() < 0.2
    outcomes = [_outcome(chance, claim, job.seq) for job in claim.jobs]
    reached = outcomes[: len(outcomes) // 2] if dies else outcomes
    size = chance.randint(1, 4)
    for start in range(0, len(reached), size):
        group = reached[start : start + size]
        if chance.random() < 0.2:
            # Fails at the receipts, when the results are written already: nothing of the group is there.
            impossible = replace(group[0], usage=TokenUsage(1, 2, 0))
            with pytest.raises(IntegrityError):
                record([impossible, *group[1:]])
        # The second is that of a worker whose commit's answer was lost.
        for _ in range(chance.choice([1, 1, 2])):
            record(group)
    if dies:
        leases.give_back([claim.key])


def _outcome(chance: Random, claim: Claim, seq: int) -> Outcome:
    prompt = chance.choice([0, 1, 7, 1_000, 2**31 - 1])
    usage = TokenUsage(prompt, chance.choice([0, prompt // 3, prompt]), chance.choice([0, 3, 2**31 - 1]))
    billed: dict[str, Any] = {"usage": usage, "price": chance.choice(PRICES), "model": chance.choice(MODELS)}
    moment = chance.choice(MOMENTS)
    # An answer that was paid for and could not be stored is a failure with a receipt.
    kind, fields = chance.choice([("succeeded", billed), ("failed", billed), ("failed", {})])
    return work.outcome(claim, seq, kind, finished_at=moment, **fields)


def _receipts(web: WebClient, batch_id: UUID, caller: Caller) -> list[dict[str, Any]]:
    """As the API shows them, with what they may be grouped by. Their batch costs what they cost."""
    job = web.get(f"/v1/jobs/{ids.show('job_', batch_id)}").get_json()
    single = job["batch_id"] is None
    rows = [job] if single else web.get(f"/v1/batches/{ids.show('batch_', batch_id)}/results").get_json()["data"]
    for row in rows:
        used = row["usage"] and {name: row["usage"][name] for name in SUMS[2:5]}
        assert used == (row["receipt"] and {name: row["receipt"][name] for name in SUMS[2:5]})
    receipts = [row["receipt"] for row in rows if row["receipt"] is not None]
    if not single:
        batch = web.batch(batch_id)
        assert batch["cost"]["nano_usd"] == sum(_cost(receipt) for receipt in receipts)
        assert batch["usage"]["total_tokens"] == sum(receipt["total_tokens"] for receipt in receipts)
    alike = {
        "api_key_id": ids.show("key_", caller.key_id),
        "batch_id": None if single else ids.show("batch_", batch_id),
    }
    return [receipt | alike | {"day": _day(receipt["recorded_at"])} for receipt in receipts]


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _cost(receipt: dict[str, Any]) -> int:
    return int(receipt["cost"]["nano_usd"]) if receipt["cost"] is not None else 0


def _check_cost(receipt: dict[str, Any]) -> None:
    """The cost is what the prices on the receipt make of its tokens, rounded up to the nano-dollar."""
    assert (receipt["unit_prices"] is None) == (receipt["cost"] is None)
    if receipt["cost"] is None:
        return
    prices = {name: Decimal(price) for name, price in receipt["unit_prices"].items()}
    assert set(prices) == {"prompt", "cached", "completion"}
    dollars = (receipt["prompt_tokens"] - receipt["cached_tokens"]) * prices["prompt"]
    dollars += receipt["cached_tokens"] * prices["cached"] + receipt["completion_tokens"] * prices["completion"]
    exact = (dollars / 10**6).quantize(Decimal("1e-9"), ROUND_CEILING)
    assert Decimal(receipt["cost"]["usd"]) == exact
    assert receipt["cost"]["nano_usd"] == exact * 10**9


def _check_grouping(web: WebClient, groups: tuple[str, ...], receipts: list[dict[str, Any]]) -> None:
    expected = defaultdict(list)
    for receipt in receipts:
        expected[tuple(receipt[group] for group in groups)].append(receipt)
    if not groups:
        expected.setdefault((), [])
    query: dict[str, Any] = {"start_time": 0, "limit": 3} | ({"group_by": ",".join(groups)} if groups else {})
    buckets = []
    while True:
        page = web.get("/v1/usage", **query).get_json()
        assert _sums_in(page["total"]) == _sums_of(receipts)
        buckets += page["data"]
        assert page["has_more"] == (page["next_page"] is not None)
        if not page["has_more"]:
            break
        assert len(page["data"]) == 3
        query["page"] = page["next_page"]
    found = {tuple(bucket[group] for group in groups): _sums_in(bucket) for bucket in buckets}
    assert len(found) == len(buckets), "a bucket is there twice"
    assert found == {alike: _sums_of(those) for alike, those in expected.items()}
    ordered = [tuple(bucket[group] or "" for group in groups) for bucket in buckets]
    assert ordered == sorted(ordered)


def _sums_in(shown: dict[str, Any]) -> tuple[int, ...]:
    return *(shown[name] for name in SUMS), shown["cost"]["nano_usd"]


def _sums_of(receipts: list[dict[str, Any]]) -> tuple[int, ...]:
    tokens = [sum(receipt[name] for receipt in receipts) for name in SUMS[2:]]
    unpriced = sum(receipt["cost"] is None for receipt in receipts)
    return len(receipts), unpriced, *tokens, sum(_cost(receipt) for receipt in receipts)
