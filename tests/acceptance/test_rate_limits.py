"""Rate limits of two web processes together, with Redis and without."""

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.types.json import Jsonb

from common import accounts, keys
from local.process import Process
from local.stack import Stack
from tests import databases
from tests.process_settings import process_settings
from tests.waiting import Stopwatch, wait_for

# A window of a minute takes a minute: RATE_LIMIT_SECONDS=180 goes through three of them.
SECONDS = float(os.environ.get("RATE_LIMIT_SECONDS") or 10)
MINUTE = 60
AWAY_SECONDS = 5
CLIENTS = 4
# What a scheduler that has other things to do may take from a client.
SLACK_SECONDS = 3


class Answer(NamedTuple):
    """What came, and the moments at which the request was sent and its answer was there."""

    sent: float
    came: float
    status: int
    retry_after: int


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two web processes with a Redis of their own."""
    home = tmp_path_factory.mktemp("stack") / "home"
    with (
        databases.cloned(services) as urls,
        Stack(
            home, workers=0, extra_env=urls | {"WEB_PROCESSES": "2"}, with_stripe=False, durable=False, keep=False
        ) as stack,
    ):
        yield stack


def key_with(stack: Stack, **limits: int) -> str:
    """A key of a new account with limits of its own."""
    with process_settings(stack.env), psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as database:
        account = accounts.create("Ann", "pro")
        database.execute("UPDATE accounts SET overrides = %s WHERE id = %s", [Jsonb(limits), account.id])
        return keys.create(account.id, "test")


def ask(stack: Stack, method: str, path: str, key: str = "") -> tuple[Answer, dict[str, Any]]:
    """A request over a connection of its own, which either process may take."""
    body = json.dumps({"model": "sim", "prompt": "Hi"}) if method == "POST" else None
    sent = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)) as connection:
        connection.request(method, path, body, {"X-API-Key": key, "Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    retry_after = int(response.headers.get("Retry-After") or 0)
    return Answer(sent, time.monotonic(), response.status, retry_after), answer


@contextmanager
def hammered(stack: Stack, method: str, path: str, *keys: str) -> Iterator[dict[str, list[Answer]]]:
    """Meanwhile several clients of each key ask as often as they can; their answers by key, in no order."""
    answers: dict[str, list[Answer]] = {key: [] for key in keys}
    enough = threading.Event()

    def client(key: str) -> None:
        while not enough.is_set():
            answers[key].append(ask(stack, method, path, key)[0])

    with ThreadPoolExecutor(CLIENTS * len(keys)) as threads:
        running = [threads.submit(client, key) for key in keys for _ in range(CLIENTS)]
        try:
            yield answers
        finally:
            enough.set()
    for ended in running:
        ended.result()


def test_a_key_at_60_a_minute_hammered_gets_60_in_any_minute_and_all_of_them(stack: Stack) -> None:
    key = key_with(stack, key_requests_per_minute=60)
    # One request some time before the others: it must not matter where in a window they begin.
    assert ask(stack, "GET", "/v1/jobs", key)[0].status == 200
    with hammered(stack, "GET", "/v1/jobs", key) as answers:
        time.sleep(SECONDS)
    accepted = [answer for answer in answers[key] if answer.status == 200]
    refused = [answer for answer in answers[key] if answer.status == 429]
    assert len(accepted) + len(refused) == len(answers[key]) > 63
    assert len(accepted) == pytest.approx(-(-SECONDS // MINUTE) * 60, rel=0.05)
    sent, came = sorted(answer.sent for answer in accepted), sorted(answer.came for answer in accepted)
    assert all(last - first >= MINUTE for first, last in zip(sent, came[63:], strict=False))
    end = max(answer.came for answer in refused)
    for answer in refused:
        latest = answer.came + answer.retry_after + SLACK_SECONDS
        assert latest > end or any(answer.sent < moment < latest for moment in came)
    print(f"{len(answers[key])} answers; accepted at {[round(moment - sent[0], 1) for moment in sent]}")


def modes(stack: Stack) -> set[str]:
    """What the web processes say of their rate limits: asked often enough to hear both."""
    return {ask(stack, "GET", "/readyz")[1]["rate_limits"] for _ in range(8)}


class Outage(NamedTuple):
    """How Redis goes away, and how it comes back."""

    begin: Callable[[Process], None]
    end: Callable[[Process], None]


def kill(redis: Process) -> None:
    redis.send(signal.SIGKILL)
    assert redis.wait(10)


OUTAGES = {
    "killed": Outage(kill, Process.start),
    "standing still": Outage(lambda redis: redis.send(signal.SIGSTOP), lambda redis: redis.send(signal.SIGCONT)),
}


@pytest.mark.parametrize("how", OUTAGES)
def test_while_redis_is_away_requests_go_on_and_limits_hold_and_afterwards_they_are_shared_again(
    stack: Stack, how: str
) -> None:
    busy, limited = key_with(stack), key_with(stack, key_requests_per_minute=60)
    redis, outage = stack.processes["redis"], OUTAGES[how]
    log = stack.home.logs / "web.log"
    logged_before = log.stat().st_size
    with hammered(stack, "POST", "/v1/jobs", busy, limited) as answers:
        wait_for(lambda: Counter(answer.status for answer in answers[limited]), lambda found: found[429] > 0)
        outage.begin(redis)
        away_at, away = time.monotonic(), Stopwatch()
        try:
            wait_for(lambda: modes(stack), lambda found: found == {"each process by itself"})
            assert ask(stack, "GET", "/readyz")[0].status == 503
            time.sleep(AWAY_SECONDS)
            back_at = time.monotonic()
            stood_still = back_at - away_at - away.seconds
        finally:
            outage.end(redis)
        wait_for(lambda: modes(stack), lambda found: found == {"shared"})
        seen = len(answers[busy])
        wait_for(lambda: len(answers[busy]), lambda found: found > seen + 50)
    assert ask(stack, "GET", "/readyz")[0].status == 200

    print(
        {
            name: Counter(answer.status for answer in answers[key])
            for name, key in (("busy", busy), ("limited", limited))
        }
    )
    assert {answer.status for answer in answers[busy]} == {202}
    assert {answer.status for answer in answers[limited]} == {202, 429}
    meanwhile = [answer for of_key in answers.values() for answer in of_key if away_at < answer.came < back_at]
    assert max(answer.came - answer.sent for answer in meanwhile) < SLACK_SECONDS + stood_still
    # One limit of Redis', one of the processes' own while it is away, and one more where it has forgotten the first.
    accepted = [answer.came for answer in answers[limited] if answer.status == 202]
    assert sum(came < away_at for came in accepted) == pytest.approx(60, abs=CLIENTS)
    assert 0 < sum(away_at < came < back_at for came in accepted) <= 60 + CLIENTS
    assert len(accepted) <= 180

    # Once for each process and change, and not for each request.
    with log.open() as lines:
        lines.seek(logged_before)
        logged = Counter(json.loads(line)["message"] for line in lines if line.startswith("{"))
    assert logged["Redis does not answer: each process limits by itself"] == 2
    assert logged["Redis answers again: rate limits hold for all processes together"] == 2
