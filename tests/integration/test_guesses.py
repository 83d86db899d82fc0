"""Guessing passwords and having mail sent slows down, for an address and for a user, and locks nobody out for good."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import psycopg
import pytest
from argon2 import PasswordHasher

from common import even_time, guesses, password_hashes, password_reset, queue, sessions
from common.errors import AuthenticationFailed, InvalidRequest, RateLimited, Unavailable
from tests.people import PASSWORD, Visitor, mailed, shown, signed_up, token_of
from tests.waiting import Stopwatch, wait_for
from tests.web_client import WebClient, refused

EMAIL = "ada@example.org"
ADDRESSES = (f"198.51.{number // 250}.{number % 250}" for number in count())


def guess(email: str, address: str) -> bool:
    """Whether it was compared; it is wrong."""
    with pytest.raises((AuthenticationFailed, RateLimited)) as found:
        sessions.log_in(email, "not this one", address)
    error = found.value
    if isinstance(error, RateLimited):
        assert error.code == "too_many_tries"
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 2 * guesses.QUARTER_HOUR
        return False
    assert error.code == "invalid_login"
    return True


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.org"])
def test_from_one_address_one_users_password_is_guessed_ten_times_in_a_quarter_of_an_hour(
    web: WebClient, database: psycopg.Connection, email: str
) -> None:
    ada = signed_up(web.app, EMAIL, "192.0.2.9")
    assert [guess(email, "203.0.113.5") for _ in range(12)] == [True] * guesses.LOG_INS_OF_BOTH + [False] * 2
    # Whoever has the password comes in from elsewhere, and is still in where they are.
    assert ada.logged_in()
    assert ada.again().log_in().logged_in()


def test_by_http_it_is_a_429_that_says_when_to_come_again(web: WebClient, database: psycopg.Connection) -> None:
    ada = signed_up(web.app, EMAIL)
    sent = {"email": EMAIL, "password": "not this one"}
    statuses = [ada.post("/auth/log-in", sent).status_code for _ in range(guesses.LOG_INS_OF_BOTH)]
    assert set(statuses) <= {401, 429}
    response = ada.post("/auth/log-in", sent | {"password": PASSWORD})
    assert refused(response, 429)["code"] == "too_many_tries"
    assert int(response.headers["Retry-After"]) > 0


def test_while_redis_is_away_each_process_counts_by_itself(
    web: WebClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    guesses._shared().look()
    guesses._shared()._alone(None)
    guesses._shared()._look_again_at = time.monotonic() + 3_600
    counted = [guess(EMAIL, "203.0.113.5") for _ in range(guesses.LOG_INS_OF_BOTH)]
    assert 0 < sum(counted) < guesses.LOG_INS_OF_BOTH
    assert not counted[-1]


def test_who_is_kept_out_by_the_guesses_of_others_comes_in_by_a_reset(
    web: WebClient, database: psycopg.Connection
) -> None:
    ada = signed_up(web.app, EMAIL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guesses, "LOG_INS_OF_EMAIL", 3)
        while guess(EMAIL, next(ADDRESSES)):
            pass
        with pytest.raises(RateLimited):
            sessions.log_in(EMAIL, PASSWORD, "192.0.2.9")
        shown(ada.post("/auth/password/forgot", {"email": EMAIL}), 202)
        sent = {"token": token_of(database, EMAIL, "reset_password"), "password": "quite another one"}
        assert ada.with_tokens(ada.post("/auth/password/reset", sent)).logged_in()


def test_no_mail_that_others_ask_for_keeps_anybody_from_a_link_to_reset_the_password(
    web: WebClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = signed_up(web.app, EMAIL)
    # What is signed up with here is nobody's, and to hash it takes long.
    monkeypatch.setattr(password_hashes, "_hasher", PasswordHasher(1, 8, 1))
    eve = Visitor(web.app, EMAIL, "203.0.113.5")
    told = {"email": EMAIL, "password": PASSWORD, "account_name": "Eve's"}
    for _ in range(guesses.MAILS_TO_EMAIL):
        shown(eve.post("/auth/sign-up", told), 202)
    assert refused(eve.post("/auth/sign-up", told), 429)["code"] == "too_many_tries"
    shown(ada.post("/auth/password/forgot", {"email": EMAIL}), 202)
    assert [template for template, _ in mailed(database, EMAIL)][-1] == "reset_password"


def test_a_link_that_was_used_has_no_password_hashed(
    web: WebClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = signed_up(web.app, EMAIL)
    shown(ada.post("/auth/password/forgot", {"email": EMAIL}), 202)
    sent = {"token": token_of(database, EMAIL, "reset_password"), "password": "quite another one"}
    shown(ada.post("/auth/password/reset", sent))
    monkeypatch.setattr(password_hashes, "WAIT_SECONDS", 0.05)
    turns = [password_hashes._Turn() for _ in range(password_hashes.HASHES_AT_ONCE)]
    for turn in turns:
        turn.__enter__()
    try:
        assert refused(ada.post("/auth/password/reset", sent), 400)["code"] == "invalid_token"
    finally:
        for turn in turns:
            turn.__exit__()


def test_an_address_is_mailed_a_few_times_an_hour_and_known_ones_as_unknown_ones(
    web: WebClient, database: psycopg.Connection
) -> None:
    signed_up(web.app, EMAIL)
    for email in (EMAIL, "nobody@example.org"):
        visitor = Visitor(web.app, email)
        sent = [visitor.post("/auth/password/forgot", {"email": email}).status_code for _ in range(7)]
        assert sent == [202] * guesses.RESETS_TO_EMAIL + [429] * 2
    assert len(mailed(database, EMAIL)) == guesses.RESETS_TO_EMAIL
    assert mailed(database, "nobody@example.org") == []


def test_redis_does_not_learn_who_logs_in(web: WebClient, database: psycopg.Connection) -> None:
    signed_up(web.app, EMAIL).log_in()
    keys = str(queue.redis().keys("*"))
    assert "log-in" in keys
    assert "ada" not in keys


def test_a_password_is_counted_before_it_is_hashed(settings: dict[str, str]) -> None:
    long = "x" * 50_000_000
    counting = Stopwatch()
    with pytest.raises(InvalidRequest):
        password_hashes.make(long)
    assert counting.seconds < 1
    kept = password_hashes.make("x" * 1_024)
    assert password_hashes.matches("x" * 1_024, kept)
    assert not password_hashes.matches(long, kept)
    assert not password_hashes.matches("x" * 1_025, kept)
    assert not password_hashes.matches("nobody's", None)
    assert not password_hashes.matches("", None)
    assert not password_hashes.matches("\ud800" * 10, kept)
    assert password_hashes.matches("Å" * 10, password_hashes.make("A\u030a" * 10))


def test_a_password_of_nobody_s_is_compared_with_what_takes_as_long() -> None:
    assert not password_hashes._hasher.check_needs_rehash(password_hashes._NOBODYS)
    assert not password_hashes.matches(PASSWORD, None)


def test_only_so_many_passwords_are_hashed_at_once_and_the_others_wait(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password_hashes, "WAIT_SECONDS", 0.05)
    turns = [password_hashes._Turn() for _ in range(password_hashes.HASHES_AT_ONCE)]
    for turn in turns:
        turn.__enter__()
    try:
        with pytest.raises(Unavailable):
            password_hashes.make(PASSWORD)
        monkeypatch.setattr(password_hashes, "WAIT_SECONDS", 60)
        with ThreadPoolExecutor(password_hashes.MAX_WAITING + 4) as threads:
            asked = [threads.submit(password_hashes.make, PASSWORD) for _ in range(password_hashes.MAX_WAITING + 4)]
            wait_for(lambda: [ask for ask in asked if ask.done()], lambda refused: len(refused) == 4)
            turns.pop().__exit__()
            errors = [ask.exception() for ask in asked]
        assert [type(error) for error in errors if error is not None] == [Unavailable] * 4
    finally:
        for turn in turns:
            turn.__exit__()
    assert password_hashes.matches(PASSWORD, password_hashes.make(PASSWORD))


def test_asking_for_a_link_takes_as_long_where_there_is_nobody_to_mail_it_to(
    web: WebClient, database: psycopg.Connection
) -> None:
    signed_up(web.app, EMAIL)
    for email in (EMAIL, "nobody@example.org"):
        started = time.monotonic()
        password_reset.ask(email, "192.0.2.9")
        assert time.monotonic() - started >= even_time.SECONDS
    assert [template for template, _ in mailed(database, EMAIL)] == ["reset_password"]


ROUNDS = 30


def test_a_log_in_takes_as_long_for_an_address_that_nobody_has(web: WebClient, database: psycopg.Connection) -> None:
    """Each kind of guess in turn, so that whatever else the machine does hits both. The known one may not be further
    from the unknown one than two samples of the known one are from each other."""
    signed_up(web.app, EMAIL)
    took: dict[str, list[float]] = {"known": [], "again": [], "unknown": []}
    for number in range(ROUNDS):
        for kind, email in (("known", EMAIL), ("unknown", f"nobody{number}@example.org"), ("again", EMAIL)):
            address = next(ADDRESSES)
            queue.redis().flushdb()
            guesses._shared.forget()
            guesses._shared()
            started = time.perf_counter()
            assert guess(email, address)
            took[kind].append(time.perf_counter() - started)
    known, again, unknown = (statistics.median(took[kind]) for kind in ("known", "again", "unknown"))
    spread = statistics.stdev(took["known"] + took["again"]) / (ROUNDS / 2) ** 0.5
    print(f"known {known * 1000:.2f} ms, again {again * 1000:.2f} ms, unknown {unknown * 1000:.2f} ms")
    assert abs(unknown - (known + again) / 2) < max(3 * spread, abs(known - again), 0.03 * known)
