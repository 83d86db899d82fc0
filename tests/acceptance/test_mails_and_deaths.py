"""Mails and processes that die: whatever is killed and whenever, each mail arrives at least once and none is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from common import mails
from common.database import as_owner
from local.process import ROOT
from tests import mail_servers
from tests.mail_servers import FINE, Answer, MailServer
from tests.waiting import wait_for

MAILS = 60
KILLS = 6


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_servers.running() as running:
        yield running


@pytest.fixture
def env(env: dict[str, str], server: MailServer) -> dict[str, str]:
    return env | {"SMTP_URL": server.url(), "MAIL_FROM": "no-reply@example.com"}


@contextmanager
def deliverer(env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The process that an operator starts."""
    process = subprocess.Popen([sys.executable, "worker.py", "deliveries"], cwd=ROOT, env={**os.environ, **env})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def states(database: psycopg.Connection) -> Counter[str]:
    return Counter(state for (state,) in database.execute("SELECT state FROM mails"))


def end_leases(database: psycopg.Connection) -> None:
    """As if the leases of the killed were over, and the times until the next attempts."""
    database.execute("UPDATE mails SET lease_until = now() WHERE state = 'sending'")
    database.execute("UPDATE mails SET next_attempt_at = now() WHERE state = 'pending'")


def test_each_mail_arrives_whatever_kills_its_sender_and_its_server(
    database: psycopg.Connection, settings: dict[str, str], server: MailServer
) -> None:
    chance = random.Random(7)
    people = [f"person{number}@example.com" for number in range(MAILS)]
    for to in people:
        # Half of the servers die or hang in the middle, or do not take it, the first time.
        stage, act = chance.choice([("taken", "reset"), ("asked", "reset"), ("taken", "hang"), ("named", "451 later")])
        server.answers[to] = [Answer(stage, act), FINE] if chance.random() < 0.5 else [FINE]  # type: ignore[arg-type]
        with as_owner() as connection:
            mails.write(connection, to, "verify_email", {"link": f"https://example.com/{to}"})
    for _ in range(KILLS):
        server.begun.clear()
        with deliverer(settings) as process:
            # In the middle of some: those that hang hold the places of the others.
            wait_for(lambda: sum([*server.begun.values()]), lambda begun: begun >= 5)
            time.sleep(chance.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
        end_leases(database)
        if states(database)["sent"] > MAILS - 10:
            break
    # From here on nothing dies any more.
    server.answers.clear()
    with deliverer(settings):

        def all_sent() -> Counter[str]:
            database.execute("UPDATE mails SET next_attempt_at = now() WHERE state = 'pending'")
            return states(database)

        wait_for(all_sent, lambda found: found["sent"] == MAILS)
    for to in people:
        arrived = server.of(to)
        assert arrived, f"the mail to {to} is lost"
        assert len({mail["Message-ID"] for mail in arrived}) == 1
        assert all(f"https://example.com/{to}" in str(mail.get_body(("plain",))) for mail in arrived)
    assert len({mail["Message-ID"] for _, mail in server.took}) == MAILS


def test_a_deliverer_that_is_asked_to_end_finishes_the_mail_that_it_sends(
    database: psycopg.Connection, settings: dict[str, str], server: MailServer
) -> None:
    server.answers["ada@example.com"] = [Answer("taken", "hang")]
    with as_owner() as connection:
        mails.write(connection, "ada@example.com", "password_changed")
    with deliverer(settings) as process:
        server.wait_for("ada@example.com")
        process.send_signal(signal.SIGTERM)
        with as_owner() as connection:
            mails.write(connection, "late@example.com", "password_changed")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        # Nobody waits for ever: a second signal drops it, and it is sent again after its lease.
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert states(database) == {"sending": 1, "pending": 1}
