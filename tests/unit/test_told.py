"""What the headers of an answer say of a provider's limits."""

from multidict import CIMultiDict, CIMultiDictProxy

from worker import told
from worker.provider import Response
from worker.rates import Told

OPENAI = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-limit-tokens": "300000",
    "x-ratelimit-remaining-requests": "599",
    "x-ratelimit-remaining-tokens": "299900",
}


def by(status: int = 200, **headers: str) -> Told | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return told.by(Response(status, CIMultiDictProxy(CIMultiDict(named)), b""))


def test_an_answer_without_a_word_of_limits_tells_nothing() -> None:
    assert by() is None
    assert by(503, retry_after="7") is None


def test_limits_and_what_remains_are_read_as_openai_writes_them() -> None:
    assert by(200, **OPENAI) == Told(600, 300_000, 599, 299_900)


def test_a_refusal_tells_how_long_no_call_is_wanted_up_to_a_bound() -> None:
    assert by(429, retry_after="7") == Told(wait_seconds=7.0, refused=True)
    assert by(429, retry_after_ms="1500") == Told(wait_seconds=1.5, refused=True)
    assert by(429, retry_after="86400") == Told(wait_seconds=told.MAX_RETRY_AFTER_SECONDS, refused=True)


def test_limits_are_believed_where_calls_succeed() -> None:
    assert by(429, **OPENAI) == Told(refused=True)
    assert by(500, **OPENAI) is None


def test_nonsense_in_headers_is_as_good_as_none() -> None:
    assert by(200, x_ratelimit_limit_requests="many", x_ratelimit_limit_tokens="-3") is None
    assert by(429, retry_after="soon", x_ratelimit_limit_requests="1e9") == Told(refused=True)
    assert by(429, retry_after="nan", retry_after_ms="nan") == Told(refused=True)
