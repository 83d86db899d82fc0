"""Metering by real processes that deliver: killed at random and drained, while the stand-in fails every fifth event.

Small by default. METER_HOURS=500 and METER_KILLS=20 make it large; `make chaos` does the same under running work.
"""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from local.process import Process
from local.stack import Stack
from tests.databases import one
from tests.metering import hour_ago, metered, use, used
from tests.process_settings import process_settings
from tests.stacks import own_stack
from tests.stripe_process import KEY, StandIn, make_meter, running_standin
from tests.waiting import Stopwatch, wait_for

HOURS = int(os.environ.get("METER_HOURS", "40"))
KILLS = int(os.environ.get("METER_KILLS", "3"))
ACCOUNTS = 8
# A fifth of all, half of it after the event was counted.
FAULTS = {"error": 0.05, "drop": 0.03, "rate_limit": 0.02, "error_after": 0.05, "drop_after": 0.05}


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with running_standin() as running:
        make_meter(running)
        yield running


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory, standin: StandIn) -> Iterator[Stack]:
    """No web and no worker: nothing but deliverers, which the tests start."""
    settings = {"STRIPE_SECRET_KEY": KEY, "STRIPE_API_BASE": standin.url, "METER_EVENTS_PER_SECOND": "100"}
    home: Path = tmp_path_factory.mktemp("stack")
    with own_stack(services, home, workers=0, with_web=False, with_stripe=True, **settings) as stack:
        yield stack


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection]:
    with process_settings(stack.env), psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("TRUNCATE meter_outbox, usage_records")
        connection.execute("UPDATE metering SET looked_back_at = NULL")
        yield connection


def customers(database: psycopg.Connection, standin: StandIn) -> dict[UUID, str]:
    """Metered accounts with receipts in each of many hours, and their customers."""
    drawn = random.Random(5)
    made = {}
    for _ in range(ACCOUNTS):
        customer = standin.client().v1.customers.create({"name": "Ann"}).id
        made[account_id := metered(database, customer)] = customer
        for hours in range(1, HOURS + 1):
            use(database, account_id, hour_ago(hours), drawn.randrange(1, 100_000))
    return made


def delivered(database: psycopg.Connection) -> int:
    return int(str(one(database, "SELECT count(*) FROM meter_outbox WHERE state = 'delivered'")[0]))


def stop(stack: Stack, deliverer: Process) -> None:
    deliverer.stop()
    del stack.processes[deliverer.name]


def test_whatever_dies_and_fails_stripe_has_every_token_once(
    stack: Stack, standin: StandIn, database: psycopg.Connection
) -> None:
    faults = [{"fault": name, "share": share, "path": "/v1/billing/meter_events"} for name, share in FAULTS.items()]
    made = customers(database, standin)
    standin.admin("PUT", "settings", faults=faults)
    portions = ACCOUNTS * HOURS
    for kill in range(1, KILLS + 1):
        deliverer = stack.start_deliverer()
        enough = kill * portions // (KILLS + 2)
        wait_for(lambda: delivered(database), enough.__le__)
        deliverer.send(signal.SIGKILL)
        assert deliverer.wait(10)
        stop(stack, deliverer)
        # A lease is long, and all who had one are dead.
        database.execute("UPDATE meter_outbox SET lease_until = now() WHERE state = 'sending'")
    deliverer = stack.start_deliverer()

    def hastened() -> int:
        # Pauses between attempts grow, as they must where Stripe is in trouble.
        database.execute("UPDATE meter_outbox SET next_attempt_at = now() WHERE state = 'pending'")
        return delivered(database)

    wait_for(hastened, lambda count: count == portions)
    stop(stack, deliverer)
    totals = standin.admin("GET", "meter_events")["totals"]
    for account_id, customer in made.items():
        assert totals[customer] == used(database, account_id)
        sent = standin.admin("GET", f"meter_events?customer={customer}")["identifiers"]
        assert len(sent) == HOURS
        assert all(len(event["values"]) == 1 and event["counted"] == 1 for event in sent.values())


def test_a_drained_process_records_what_it_was_sending_and_begins_nothing_more(
    stack: Stack, standin: StandIn, database: psycopg.Connection
) -> None:
    customers(database, standin)
    standin.admin("PUT", "settings", delay_seconds=0.5)
    deliverer = stack.start_deliverer()
    wait_for(lambda: delivered(database) > 0, bool)
    draining = Stopwatch()
    deliverer.send(signal.SIGTERM)
    assert deliverer.wait(30)
    assert deliverer.exit_status == 0
    assert draining.seconds < 15
    open_states = (
        "SELECT count(*) FROM meter_outbox WHERE state NOT IN ('pending', 'delivered') OR doubtful_since > '-infinity'"
    )
    assert one(database, open_states) == (0,)
    assert delivered(database) < ACCOUNTS * HOURS
    stop(stack, deliverer)
    standin.admin("PUT", "settings")
