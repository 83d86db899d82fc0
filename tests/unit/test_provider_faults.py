"""The simulated provider's latency and its misbehaviour on demand, over HTTP from the real process."""

import http.client
import json
import time

import pytest

from tests.provider_process import CHAT, KEY, Provider, chat_body
from tests.waiting import Stopwatch, wait_for


def test_latency_is_a_base_and_a_time_per_token(provider: Provider) -> None:
    began, answering = time.monotonic(), Stopwatch()
    answer = provider.chat("sim-latency-200ms-per-token-10ms-tokens-30")
    assert answer.json["usage"]["completion_tokens"] == 30
    assert time.monotonic() - began >= 0.5
    assert answering.seconds < 2
    provider.set(latency=0.3)
    began, answering = time.monotonic(), Stopwatch()
    provider.chat("gpt-4o-mini")
    assert time.monotonic() - began >= 0.3
    assert answering.seconds < 2


def test_a_short_wait_is_not_held_up_by_a_long_one(provider: Provider) -> None:
    long_wait = provider.connect()
    long_wait.request("POST", CHAT, json.dumps(chat_body("sim-latency-1500ms")), dict(KEY))
    wait_for(provider.calls, lambda calls: calls["in_flight"] == 1)
    assert provider.chat("sim-latency-50ms").status == 200
    assert provider.calls()["in_flight"] == 1
    assert long_wait.getresponse().status == 200
    long_wait.close()


def test_a_stream_is_paced_by_its_tokens(provider: Provider) -> None:
    body = chat_body("sim-per-token-10ms-tokens-40", stream=True)
    with provider.client() as client, client.chat.completions.create(**body) as stream:
        times = [time.monotonic() for _ in stream]
    assert 0.3 < times[-1] - times[0] < 2


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("400", 400, "unsupported_value"),
        ("401", 401, "invalid_api_key"),
        ("403", 403, "model_not_found"),
        ("404", 404, "model_not_found"),
        ("429", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("500", 500, None),
        ("503", 503, None),
    ],
)
def test_status_faults_have_openai_bodies(provider: Provider, fault: str, status: int, code: str | None) -> None:
    answer = provider.chat(f"sim-{fault}")
    assert (answer.status, answer.error["code"]) == (status, code)
    assert provider.calls()["by_fault"] == {fault: 1}


def test_retry_after_and_rate_limit_headers_come_with_429_and_503(provider: Provider) -> None:
    limited = provider.chat("sim-429-retry-1.5s").headers
    assert (limited["retry-after"], limited["retry-after-ms"]) == ("2", "1500")
    assert limited["x-ratelimit-remaining-requests"] == "0"
    assert limited["x-ratelimit-reset-requests"] == "1.5s"
    assert provider.chat("sim-503-retry-20s").headers["retry-after"] == "20"


def test_502_and_504_are_pages_of_html(provider: Provider) -> None:
    for fault in (502, 504):
        answer = provider.chat(f"sim-{fault}")
        assert (answer.status, answer.headers["content-type"]) == (fault, "text/html")
        assert answer.content.startswith(b"<html>")


def test_rate_limits_let_a_minutes_worth_through_and_then_say_when(provider: Provider) -> None:
    answers = [provider.chat("sim-rpm-3", f"Question {number}") for number in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
    assert 15 <= int(answers[3].headers["retry-after"]) <= 20
    assert answers[3].error["type"] == "requests"
    provider.set(tpm=60_000)
    spent = provider.chat("gpt-4o-mini")
    assert int(spent.headers["x-ratelimit-remaining-tokens"]) == 60_000 - spent.json["usage"]["total_tokens"]
    provider.set(tpm=5)
    too_large = provider.chat("gpt-4o-mini")
    assert (too_large.status, too_large.error["type"]) == (429, "tokens")
    assert "retry-after" not in too_large.headers


def test_a_limit_is_let_through_again_after_the_wait_it_named(provider: Provider) -> None:
    provider.set(rpm=600)
    first_refused = next(answer for answer in iter(provider.chat, None) if answer.status == 429)
    wait = int(first_refused.headers["retry-after-ms"]) / 1_000
    assert 0 < wait <= 0.1
    # What the header promises is the thing under test.
    time.sleep(wait)
    assert provider.chat().status == 200


def test_finishes_can_be_forced(provider: Provider) -> None:
    filtered = provider.chat("sim-content-filter").json
    assert filtered["choices"][0]["finish_reason"] == "content_filter"
    assert filtered["choices"][0]["message"]["content"] == ""
    assert provider.chat("sim-truncated").json["choices"][0]["finish_reason"] == "length"


def test_a_200_can_be_no_json(provider: Provider) -> None:
    answer = provider.chat("sim-not-json")
    assert answer.status == 200
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(answer.content)
    assert provider.calls()["successes_per_body"] == {}


@pytest.mark.parametrize("stream", [False, True])
def test_a_dropped_connection_breaks_off_mid_body(provider: Provider, stream: bool) -> None:
    with pytest.raises(http.client.IncompleteRead) as broken:
        provider.chat("sim-drop", stream=stream)
    assert len(broken.value.partial) > 50
    wait_for(provider.calls, lambda calls: calls["abandoned"] == 1)


def test_a_reset_connection_gives_no_byte(provider: Provider) -> None:
    with pytest.raises(ConnectionError):
        provider.chat("sim-reset")


def test_a_hanging_call_stays_in_flight_until_the_client_leaves(provider: Provider) -> None:
    connection = provider.connect()
    connection.request("POST", CHAT, json.dumps(chat_body("sim-hang")), dict(KEY))
    wait_for(provider.calls, lambda calls: calls["in_flight"] == 1)
    connection.close()
    calls = wait_for(provider.calls, lambda calls: calls["in_flight"] == 0)
    assert (calls["started"], calls["finished"], calls["abandoned"]) == (1, 0, 1)


def test_a_drip_is_slow_and_whole(provider: Provider) -> None:
    provider.set(drip_seconds=0.4, faults=[{"fault": "drip"}])
    began = time.monotonic()
    assert provider.chat().json["object"] == "chat.completion"
    assert time.monotonic() - began >= 0.35


def test_a_fault_can_strike_the_first_tries_only(provider: Provider) -> None:
    assert [provider.chat("sim-503-first-2").status for _ in range(4)] == [503, 503, 200, 200]
    assert provider.chat("sim-503-first-2", "Another").status == 503
    provider.set(faults=[{"fault": "500", "first": 1}])
    assert [provider.chat(prompt="Third").status for _ in range(2)] == [500, 200]


def test_a_share_of_calls_can_fail_and_the_same_ones_each_time(provider: Provider) -> None:
    def statuses() -> list[int]:
        provider.ask("POST", "/_sim/reset", headers={})
        return [provider.chat("sim-500-p-20", f"Question {number}").status for number in range(200)]

    first = statuses()
    assert 15 <= first.count(500) <= 70
    assert statuses() == first
    provider.set(seed=1)
    assert statuses() != first


def test_faults_combine_and_settings_reach_every_model(provider: Provider) -> None:
    assert [provider.chat("sim-503-first-1-429-first-2").status for _ in range(3)] == [503, 429, 200]
    provider.set(faults=[{"fault": "401"}])
    assert provider.chat("gpt-4o-mini").status == 401
    assert provider.chat("sim-503").status == 503
    provider.set()
    assert provider.chat("gpt-4o-mini").status == 200


def test_settings_are_replaced_changed_and_checked(provider: Provider) -> None:
    provider.set(latency=0.2, tokens=9)
    changed = provider.ask("POST", "/_sim/settings", {"tokens": 5}, {}).json
    assert (changed["latency"], changed["tokens"]) == (0.2, 5)
    assert provider.set(tokens=7).json["latency"] == 0
    for bad in ({"latency": -1}, {"faults": [{"fault": "nothing"}]}, {"speed": 1}, [1]):
        assert provider.ask("PUT", "/_sim/settings", bad, {}).status == 400
    assert provider.ask("GET", "/_sim/settings", headers={}).json["tokens"] == 7
