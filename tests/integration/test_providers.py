"""Jobs on their way to providers, in the test's own process against a simulated provider: outages, limits,
fallbacks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from common import ids, json_text, queue
from common.money import Price
from tests.process_settings import process_settings
from tests.provider_process import Provider, running_provider
from tests.waiting import Stopwatch
from worker import routes
from worker.calls import Caller, Progress
from worker.claims import Claim, ClaimedJob
from worker.outcomes import Outcome

T = TypeVar("T")
CHAT = "/v1/chat/completions"
MODELS = """
[providers.second]
url = "{url}"
api_key_variable = "PROVIDER_API_KEY"

[models.first]
provider = "second"
upstream = "sim-{fault}"
fallbacks = ["other"]
prices = {{ prompt = "1", completion = "2" }}

[models.other]
upstream = "sim-tokens-7"
prices = {{ prompt = "10", completion = "20" }}

[models.failing]
upstream = "sim-500"
fallbacks = ["shaky"]

[models.shaky]
upstream = "sim-500-first-2"

[models.limited]
requests_per_minute = 600

[models."*"]
"""

ModelsFile = Callable[[str], None]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider("--latency", "0.02") as running:
        yield running


@pytest.fixture
def models_file(settings: dict[str, str], provider: Provider, tmp_path: Path) -> Iterator[ModelsFile]:
    """Gives this process the models file, in which the model `first` has such a fault."""
    path = tmp_path / "models.toml"
    url = f"http://127.0.0.1:{provider.port}/v1"
    more = {"MODELS_FILE": str(path), "PROVIDER_URL": url, "CALL_ATTEMPTS": "3", "OUTAGE_SECONDS": "0"}
    with process_settings(settings | more):
        queue.redis().flushdb()

        def write(fault: str) -> None:
            path.write_text(MODELS.format(url=url, fault=fault))

        yield write


def run(jobs: int, model: str, concurrency: int = 64) -> list[Outcome]:
    return with_caller(lambda caller: all_of(caller, claim_of(model, jobs)), concurrency)


def with_caller(act: Callable[[Caller], Awaitable[T]], concurrency: int = 64) -> T:
    async def within() -> T:
        caller = Caller(concurrency, f"test-{ids.new_id()}")
        try:
            return await act(caller)
        finally:
            await caller.close()

    return asyncio.run(within())


async def all_of(caller: Caller, claim: Claim) -> list[Outcome]:
    found = await asyncio.gather(*(caller.run(claim, job, Progress()) for job in claim.jobs))
    return [outcome for outcome in found if outcome is not None]


def claim_of(model: str, jobs: int) -> Claim:
    def body(number: int) -> bytes:
        return json_text.dumps({"model": model, "messages": [{"role": "user", "content": f"{number} {ids.new_id()}"}]})

    claimed = tuple(ClaimedJob(number, str(number), body(number), tokens=500) for number in range(jobs))
    account, key, batch = ids.new_id(), ids.new_id(), ids.new_id()
    return Claim(ids.new_id(), 1, batch, account, key, CHAT, model, False, False, claimed)


def kinds(outcomes: list[Outcome]) -> set[str]:
    return {outcome.kind for outcome in outcomes}


def test_a_model_goes_out_under_its_upstream_name_and_is_priced_by_the_file(models_file: ModelsFile) -> None:
    models_file("tokens-5")
    (outcome,) = run(1, "first")
    assert outcome.kind == "succeeded"
    assert (outcome.provider, outcome.model) == ("second", "first")
    assert outcome.body is not None
    assert json_text.loads(outcome.body)["model"] == "sim-tokens-5"
    assert outcome.price == Price(1_000_000_000, 1_000_000_000, 2_000_000_000)


@pytest.mark.parametrize("fault", ["500", "quota", "drop", "429-retry-10ms"])
def test_what_a_provider_does_not_serve_its_fallback_does_and_the_receipt_names_what_ran(
    models_file: ModelsFile, fault: str
) -> None:
    models_file(fault)
    outcomes = run(30, "first")
    assert len(outcomes) == 30
    assert kinds(outcomes) == {"succeeded"}
    assert {(outcome.provider, outcome.model) for outcome in outcomes} == {("127.0.0.1", "other")}
    assert {outcome.price for outcome in outcomes} == {Price(10_000_000_000, 10_000_000_000, 20_000_000_000)}


def test_a_fallback_gets_all_the_attempts_that_a_job_may_have_whatever_its_model_used_up(
    models_file: ModelsFile,
) -> None:
    models_file("500")
    outcomes = run(5, "failing")
    assert {(outcome.kind, outcome.model) for outcome in outcomes} == {("succeeded", "shaky")}
    assert min(outcome.attempts for outcome in outcomes) > 3


def test_a_request_that_is_wrong_is_its_own_failure_and_goes_to_no_fallback(models_file: ModelsFile) -> None:
    models_file("400")
    outcomes = run(5, "first")
    assert kinds(outcomes) == {"failed"}
    assert {(outcome.provider, outcome.attempts) for outcome in outcomes} == {("second", 1)}


def test_an_exhausted_balance_stops_the_calls_at_once(models_file: ModelsFile, provider: Provider) -> None:
    models_file("500")

    async def some(caller: Caller) -> None:
        tasks = [asyncio.create_task(caller.run(claim, job, Progress())) for job in claim.jobs]
        await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    claim = claim_of("sim-quota", 50)
    with_caller(some, concurrency=8)
    # Those that were under way when the first answer came, and none after.
    assert provider.calls()["started"] <= 8


def test_an_outage_fails_no_job_drops_the_calls_to_probes_and_ends_soon_after_it(
    models_file: ModelsFile, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    models_file("500")
    monkeypatch.setenv("OUTAGE_SECONDS", "60")
    outage, jobs = 6.0, 200
    provider.set(latency=0.02, faults=[{"fault": "500", "probability": 1}])

    async def through_it(caller: Caller) -> tuple[list[Outcome], int, int]:
        running = asyncio.create_task(all_of(caller, claim_of("sim", jobs)))
        await asyncio.sleep(2.0)
        early = provider.calls()["started"]
        await asyncio.sleep(outage - 2.0)
        late = provider.calls()["started"]
        provider.set(latency=0.02)
        return await running, early, late

    running = Stopwatch()
    outcomes, early, late = with_caller(through_it, concurrency=32)
    assert kinds(outcomes) == {"succeeded"}
    assert len(outcomes) == jobs
    assert late - early <= 6
    assert running.seconds < outage + 15


def test_jobs_that_wait_for_another_attempt_leave_their_place_to_others(models_file: ModelsFile) -> None:
    models_file("500")

    async def both(caller: Caller) -> float:
        waiting = asyncio.create_task(all_of(caller, claim_of("sim-503-first-1-retry-3s", 4)))
        await asyncio.sleep(0.5)
        others = Stopwatch()
        assert kinds(await all_of(caller, claim_of("sim", 8))) == {"succeeded"}
        took = others.seconds
        assert kinds(await waiting) == {"succeeded"}
        return took

    assert with_caller(both, concurrency=4) < 2


def test_a_limit_of_the_file_paces_the_calls_and_none_is_refused(models_file: ModelsFile, provider: Provider) -> None:
    models_file("500")
    provider.set(latency=0.02, rpm=660)
    began, running = time.monotonic(), Stopwatch()
    assert kinds(run(30, "limited")) == {"succeeded"}
    # 9.8 a second after the first second's worth.
    assert time.monotonic() - began > 1.5
    assert running.seconds < 6
    assert provider.calls()["by_status"] == {"200": 30}


def test_limits_that_a_provider_tells_are_kept_without_a_word_of_the_operator(
    models_file: ModelsFile, provider: Provider
) -> None:
    models_file("500")
    assert kinds(run(1, "sim-rpm-120")) == {"succeeded"}

    async def after_the_first(caller: Caller) -> float:
        await all_of(caller, claim_of("sim-rpm-120", 1))
        began = time.monotonic()
        await all_of(caller, claim_of("sim-rpm-120", 7))
        return time.monotonic() - began

    # Two a second, two at once.
    assert with_caller(after_the_first) > 1.5
    assert provider.calls()["by_status"] == {"200": 9}


def test_single_jobs_go_before_the_rows_that_wait_in_the_same_lane(models_file: ModelsFile) -> None:
    models_file("500")

    async def behind(caller: Caller) -> float:
        rows = asyncio.create_task(all_of(caller, claim_of("sim-rpm-600", 100)))
        await asyncio.sleep(1.0)
        claim = claim_of("sim-rpm-600", 1)
        single = Claim(
            claim.id, 1, claim.batch_id, claim.account_id, claim.api_key_id, CHAT, claim.model, True, False, claim.jobs
        )
        alone = Stopwatch()
        await all_of(caller, single)
        took = alone.seconds
        rows.cancel()
        await asyncio.gather(rows, return_exceptions=True)
        return took

    assert with_caller(behind, concurrency=4) < 2


def test_models_that_customers_make_up_are_not_remembered_for_ever(
    models_file: ModelsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    models_file("500")
    monkeypatch.setattr(routes, "MAX_ROUTES", 20)

    async def many(caller: Caller) -> tuple[int, set[str]]:
        found = [await all_of(caller, claim_of(f"made-up-{number}", 1)) for number in range(50)]
        return len(caller.routes._lanes), {kind for outcomes in found for kind in kinds(outcomes)}

    assert with_caller(many) == (10, {"succeeded"})
