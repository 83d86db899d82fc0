"""Calling the model, run in the test's own process against the running stack's provider."""

import asyncio
import http.server
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import httpx2
import pytest

from common import ids, json_text
from local.stack import Stack
from tests.process_settings import process_settings
from worker.calls import Caller, Progress
from worker.claims import Claim, ClaimedJob
from worker.outcomes import Outcome

T = TypeVar("T")
CALL_ATTEMPTS = 2


@pytest.fixture
def env(stack: Stack) -> Iterator[dict[str, str]]:
    """The running stack's settings with few attempts, for this process too."""
    env = stack.env | {"CALL_ATTEMPTS": str(CALL_ATTEMPTS), "OUTAGE_SECONDS": "0"}
    with process_settings(env):
        yield env


def with_caller(act: Callable[[Caller], Awaitable[T]], concurrency: int = 8) -> T:
    async def run() -> T:
        caller = Caller(concurrency, "test")
        try:
            return await act(caller)
        finally:
            await caller.close()

    return asyncio.run(run())


def claim_of(model: str, rows: int = 1) -> Claim:
    """A claim that no database knows: calling needs none."""
    jobs = tuple(ClaimedJob(seq, str(seq), json_text.dumps(body_of(model, seq))) for seq in range(rows))
    account, key, batch = ids.new_id(), ids.new_id(), ids.new_id()
    return Claim(ids.new_id(), 1, batch, account, key, "/v1/chat/completions", model, False, False, jobs)


def body_of(model: str, seq: int) -> dict[str, Any]:
    content = f"{model} {seq} {ids.new_id()}"
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def call(model: str) -> Outcome:
    claim = claim_of(model)
    outcome = with_caller(lambda caller: caller.run(claim, claim.jobs[0], Progress()))
    assert outcome is not None
    assert outcome.claim is claim
    assert outcome.finished_at >= (outcome.started_at or outcome.finished_at)
    return outcome


@pytest.mark.parametrize("model", ["sim-hang", "sim-drip", "sim-latency-5s"])
def test_a_call_that_takes_too_long_is_given_up_and_made_again_as_often_as_allowed(
    env: dict[str, str], model: str
) -> None:
    with process_settings(env | {"CALL_TIMEOUT_SECONDS": "0.3"}):
        outcome = call(model)
    assert outcome.kind == "failed"
    assert outcome.error_code == "timeout"
    assert outcome.error_message == "The provider did not answer within 0.3 s."
    assert outcome.attempts == CALL_ATTEMPTS
    assert outcome.usage is None


@pytest.mark.parametrize(
    ("model", "code", "status_code"),
    [
        ("sim-not-json", "invalid_response", 200),
        ("sim-500", "server_error", 500),
        ("sim-502", "http_502", 502),
        ("sim-503-retry-10ms", "service_unavailable", 503),
        ("sim-429-retry-10ms", "rate_limit_exceeded", 429),
        ("sim-drop", "connection_error", None),
        ("sim-reset", "connection_error", None),
    ],
)
@pytest.mark.usefixtures("env")
def test_what_fails_at_every_attempt_fails_with_the_last_reason(model: str, code: str, status_code: int | None) -> None:
    outcome = call(model)
    assert outcome.kind == "failed"
    assert outcome.attempts == CALL_ATTEMPTS
    assert outcome.error_code == code
    assert outcome.error_message
    assert outcome.status_code == status_code
    assert (outcome.body is not None) == (status_code is not None)


def test_a_provider_that_is_not_there_is_a_failure_like_others(env: dict[str, str]) -> None:
    with process_settings(env | {"PROVIDER_URL": "http://127.0.0.1:9/v1"}):
        outcome = call("sim")
    assert outcome.error_code == "connection_error"
    assert outcome.attempts == CALL_ATTEMPTS


@pytest.mark.usefixtures("env")
def test_another_attempt_comes_no_sooner_than_the_provider_asks() -> None:
    started = time.monotonic()
    assert call("sim-503-first-1-retry-700ms").kind == "succeeded"
    assert time.monotonic() - started >= 0.7


def test_no_more_calls_are_in_flight_than_the_concurrency_allows(env: dict[str, str]) -> None:
    address = env["PROVIDER_URL"].removesuffix("/v1") + "/_sim/"
    claim = claim_of("sim-latency-50ms", rows=60)

    async def run_all(caller: Caller) -> list[Outcome | None]:
        return await asyncio.gather(*(caller.run(claim, job, Progress()) for job in claim.jobs))

    with httpx2.Client(trust_env=False, base_url=address) as provider:
        provider.post("reset")
        outcomes = with_caller(run_all, concurrency=7)
        summary = provider.get("calls").json()
    assert [outcome.kind for outcome in outcomes if outcome is not None] == ["succeeded"] * 60
    assert 1 < summary["max_in_flight"] <= 7
    assert summary["started"] == 60


@pytest.mark.usefixtures("env")
def test_no_call_begins_once_it_is_stopped() -> None:
    claim = claim_of("sim")

    async def stopped(caller: Caller) -> tuple[Outcome | None, int]:
        caller.stop()
        progress = Progress()
        return await caller.run(claim, claim.jobs[0], progress), progress.attempts

    assert with_caller(stopped) == (None, 0)


def test_an_answer_whose_request_id_is_no_text_is_kept_and_can_be_stored(env: dict[str, str]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nx-request-id: req_\xff\xe4\r\ncontent-length: 2\r\n\r\n{}")

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with process_settings(env | {"PROVIDER_URL": f"http://127.0.0.1:{server.server_port}/v1"}):
            outcome = call("any")
    assert (outcome.kind, outcome.body, outcome.request_id) == ("succeeded", b"{}", "req_??")
    assert outcome.line_bytes > 0
