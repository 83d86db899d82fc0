"""Stripe's events come in any order, several times, mixed with forged ones, to processes that die; what they leave is
what they would have left one by one. STRIPE_EVENTS=10000 is a run of the whole size."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import LiteralString
from uuid import UUID

import httpx2
import psycopg

from common import billed_plans, queue, stripe_events
from local.stack import Stack
from tests import databases, stripe_lives
from tests.conftest import redis_database
from tests.process_settings import process_settings
from tests.stripe_lives import Json
from tests.waiting import wait_for
from tests.web_process import WebProcess, web_process

EVENTS = int(os.environ.get("STRIPE_EVENTS", "600"))
# Or more, by chance.
EVENTS_OF_AN_ACCOUNT = 20
SENDERS = 8
SEED = int(os.environ.get("STRIPE_SEED", "1"))

# All that events leave, but for when they came.
LEFT: tuple[LiteralString, ...] = (
    "SELECT id, plan, billed_plan, grace_until, billing_due_at, metered_from, stripe_customer_id FROM accounts",
    "SELECT id, account_id, deleted FROM stripe_customers",
    "SELECT * FROM stripe_subscriptions",
    "SELECT * FROM stripe_invoices",
    "SELECT * FROM stripe_boundaries",
    "SELECT id, type, created_at FROM stripe_events",
)


@dataclass
class Delivery:
    """One POST of Stripe's, or of somebody who would like to be."""

    event: str
    body: bytes
    forged: bool


@dataclass
class Installation:
    env: dict[str, str]

    def left(self) -> list[set[tuple[object, ...]]]:
        """After what the sweep does, in case that a grace has just ended."""
        with process_settings(self.env):
            billed_plans.settle_due()
        with psycopg.connect(self.env["DATABASE_URL"]) as connection:
            return [set(connection.execute(query).fetchall()) for query in LEFT]


@contextmanager
def installation(
    services: Stack, accounts_there: list[tuple[UUID, str]], database: int, storage: Path
) -> Iterator[Installation]:
    """One with these accounts, of which half have their customer noted already."""
    with databases.cloned(services) as urls:
        env = urls | {
            "REDIS_URL": redis_database(services, database),
            "STORAGE_URL": storage.as_uri(),
            "SECRET_KEY": "x" * 32,
            "PROVIDER_API_KEY": "none",
            "STRIPE_SECRET_KEY": "sk_test_none",
            "STRIPE_WEBHOOK_SECRET": stripe_lives.SECRET,
            "WEB_REQUESTS_AT_ONCE": "8",
        }
        with psycopg.connect(urls["DATABASE_URL"], autocommit=True) as owner:
            for number, (account_id, customer) in enumerate(accounts_there):
                owner.execute("INSERT INTO accounts (id, name, plan) VALUES (%s, 'Ann', 'free')", [account_id])
                if number % 2:
                    owner.execute(
                        "INSERT INTO stripe_customers (id, account_id) VALUES (%s, %s)", [customer, account_id]
                    )
                    owner.execute("UPDATE accounts SET stripe_customer_id = %s WHERE id = %s", [customer, account_id])
        yield Installation(env)


def forged(event: Json, chance: random.Random) -> Delivery:
    """The event under another id, or with another object, so that it would be seen if it were taken in."""
    changed = event | {"id": f"evt_forged_{chance.getrandbits(64):x}", "created": event["created"] + 1}
    if "status" in event["data"]["object"]:
        status = chance.choice(("active", "canceled", "open", "void"))
        changed["data"] = {"object": event["data"]["object"] | {"status": status}}
    return Delivery(changed["id"], stripe_lives.body(changed), True)


def deliveries(told: list[Json], chance: random.Random) -> list[Delivery]:
    """Each event one to five times and a tenth as many forged ones, shuffled."""
    true = [
        Delivery(event["id"], stripe_lives.body(event), False) for event in told for _ in range(chance.randrange(1, 6))
    ]
    false = [forged(chance.choice(told), chance) for _ in range(len(true) // 9)]
    shuffled = true + false
    chance.shuffle(shuffled)
    return shuffled


def signature(delivery: Delivery, chance: random.Random) -> str:
    if not delivery.forged:
        return stripe_lives.signature(delivery.body)
    return chance.choice(
        (
            stripe_lives.signature(delivery.body, "whsec_of-somebody-else"),
            stripe_lives.signature(delivery.body + b" "),
            stripe_lives.signature(delivery.body, at=int(time.time()) - 3_600),
            stripe_lives.signature(delivery.body).replace("v1=", "v0="),
            "",
        )
    )


class Senders:
    """Deliver as Stripe does: where no answer comes, again and elsewhere."""

    def __init__(self, processes: list[WebProcess]) -> None:
        self._processes = processes
        self.answers: Counter[tuple[bool, int]] = Counter()
        self.applied: Counter[str] = Counter()
        self.unanswered = 0
        self._lock = Lock()

    def send(self, delivery: Delivery) -> None:
        chance = random.Random(delivery.body)
        first = chance.randrange(len(self._processes))
        for attempt in range(20):
            process = self._processes[(first + attempt) % len(self._processes)]
            headers = {"Stripe-Signature": signature(delivery, chance), "Content-Type": "application/json"}
            try:
                answer = self._http.post(f"{process.url}/stripe/webhook", content=delivery.body, headers=headers)
            except httpx2.TransportError:
                self.unanswered += 1
                continue
            with self._lock:
                self.answers[delivery.forged, answer.status_code] += 1
                if answer.status_code == 200 and not answer.json()["repeated"]:
                    self.applied[delivery.event] += 1
            return
        raise AssertionError("nobody answered")

    def send_all(self, sent: list[Delivery]) -> None:
        with httpx2.Client(trust_env=False, timeout=60) as self._http, ThreadPoolExecutor(SENDERS) as threads:
            for _ in threads.map(self.send, sent):
                pass


def test_any_order_any_repetition_and_a_death_leave_what_one_by_one_would(services: Stack, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    there = [
        (UUID(int=chance.getrandbits(128), version=4), f"cus_{n}") for n in range(EVENTS // EVENTS_OF_AN_ACCOUNT + 3)
    ]
    told = list(islice(stripe_lives.lives(there, SEED, int(time.time())), EVENTS))
    assert len(told) == EVENTS
    sent = deliveries(told, chance)
    with (
        installation(services, there, 3, tmp_path) as one_by_one,
        installation(services, there, 4, tmp_path) as tested,
        web_process(tested.env) as dying,
        web_process(tested.env) as other,
    ):
        with process_settings(one_by_one.env):
            queue.redis().flushdb()
            for event in sorted(told, key=lambda event: event["created"]):
                body = stripe_lives.body(event)
                assert stripe_events.receive(body, stripe_lives.signature(body))
        senders = Senders([dying, other])
        began = time.monotonic()
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(senders.send_all, sent)
            wait_for(senders.answers.total, lambda answered: sending.done() or answered > len(sent) // 3, seconds=3_600)
            dying.send(signal.SIGKILL)
            sending.result()
        seconds = time.monotonic() - began
        left, expected = tested.left(), one_by_one.left()
    assert left == expected
    assert senders.unanswered > 0
    assert max(senders.applied.values()) == 1
    assert not any(name.startswith("evt_forged") for name in senders.applied)
    counts = Counter(delivery.forged for delivery in sent)
    assert senders.answers == {(False, 200): counts[False], (True, 400): counts[True]}
    plans = Counter(row[1] for row in expected[0])
    print(f"\n{len(sent)} deliveries of {EVENTS} events and {counts[True]} forged in {seconds:.1f} s: {dict(plans)}")
