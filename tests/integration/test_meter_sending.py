"""The outbox against the stand-in for Stripe, by the real package: each portion is counted once, come what may."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from common import meter_outbox, meter_sender, metering
from common.meter_outbox import Outcome
from tests.databases import one
from tests.metering import hour_ago, metered, told, use
from tests.stripe_process import METER, StandIn

pytestmark = pytest.mark.usefixtures("billing_on")


@pytest.fixture
def ann(database: psycopg.Connection, stripe_customer: str) -> UUID:
    """Metered, with three hours of which two are told in one portion each and one in two."""
    account_id = metered(database, stripe_customer)
    use(database, account_id, hour_ago(2), 40)
    metering.roll_up()
    for hours in (1, 2, 3):
        use(database, account_id, hour_ago(hours), hours)
    metering.roll_up()
    assert len(told(database, account_id)) == 4
    return account_id


def at_stripe(standin: StandIn, customer: str) -> dict[str, Any]:
    """By identifier, what was sent and how often it was counted."""
    found: dict[str, Any] = standin.admin("GET", f"meter_events?customer={customer}")["identifiers"]
    return found


def states(database: psycopg.Connection) -> dict[str, int]:
    return dict(database.execute("SELECT state, count(*) FROM meter_outbox GROUP BY state").fetchall())


def fail(standin: StandIn, fault: str) -> None:
    """From now on meter events fail so."""
    standin.admin("PUT", "settings", faults=[{"path": "/v1/billing/meter_events", "fault": fault}])


def test_each_portion_is_delivered_once_with_its_tokens_and_its_time(
    database: psycopg.Connection, standin: StandIn, stripe_customer: str, ann: UUID
) -> None:
    assert meter_sender.send_due() == {"delivered": 4}
    assert states(database) == {"delivered": 4}
    found = at_stripe(standin, stripe_customer)
    sent = {(one["values"][0]["timestamp"], one["values"][0]["value"]) for one in found.values()}
    assert sent == {(str(int(at.timestamp())), str(tokens)) for at, tokens in told(database, ann)}
    assert [(one["attempts"], one["counted"]) for one in found.values()] == [(1, 1)] * 4
    assert meter_sender.send_due() == {}


def test_of_an_account_one_is_in_flight(database: psycopg.Connection, ann: UUID, standin: StandIn) -> None:
    other = metered(database, standin.client().v1.customers.create({"name": "Bob"}).id)
    use(database, other, hour_ago(1), 5)
    metering.roll_up()
    claimed = meter_outbox.claim(10)
    assert {portion.account_id for portion in claimed} == {ann, other}
    assert len(claimed) == 2
    assert meter_outbox.claim(10) == []
    meter_outbox.record([Outcome(portion, "delivered") for portion in claimed])
    assert len(meter_outbox.claim(10)) == 1


@pytest.mark.parametrize("fault", ["error_after", "drop_after", "error", "drop", "rate_limit"])
def test_what_fails_is_sent_again_under_its_identifier_and_counted_once(
    database: psycopg.Connection, standin: StandIn, stripe_customer: str, ann: UUID, fault: str
) -> None:
    fail(standin, fault)
    came = meter_sender.send_due()
    assert set(came) == {"not_taken" if fault == "rate_limit" else "unknown"}
    assert states(database) == {"pending": 4}
    (doubtful,) = one(database, "SELECT count(doubtful_since) FROM meter_outbox")
    assert doubtful == (0 if fault == "rate_limit" else 4)
    standin.admin("PUT", "settings")
    # So that none of the pauses is over by now.
    database.execute("UPDATE meter_outbox SET next_attempt_at = now() + interval '1 hour'")
    assert meter_outbox.make_due() == 4
    while came := meter_sender.send_due():
        assert set(came) == {"delivered"}
    assert states(database) == {"delivered": 4}
    assert all(one["counted"] == 1 and len(one["values"]) == 1 for one in at_stripe(standin, stripe_customer).values())


def test_a_process_that_dies_in_an_attempt_leaves_it_to_the_next_one(
    database: psycopg.Connection, standin: StandIn, stripe_customer: str, ann: UUID
) -> None:
    (lost,) = meter_outbox.claim(10)
    assert meter_sender.send_due() == {}
    database.execute("UPDATE meter_outbox SET lease_until = now() WHERE state = 'sending'")
    assert meter_outbox.look() == []
    assert meter_sender.send_due()["delivered"] == 4
    # Whoever was only held up records nothing any more.
    meter_outbox.record([Outcome(lost, "refused", "late")])
    assert states(database) == {"delivered": 4}
    assert all(one["counted"] == 1 for one in at_stripe(standin, stripe_customer).values())


def test_a_sender_that_stood_still_past_its_lease_sends_nothing(
    standin: StandIn, stripe_customer: str, ann: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every attempt begins too late.
    monkeypatch.setattr(meter_sender, "LEASE_MARGIN_SECONDS", meter_outbox.LEASE_SECONDS + 1)
    assert set(meter_sender.send_due()) == {"not_taken"}
    assert at_stripe(standin, stripe_customer) == {}


def test_what_stripe_refuses_fails_and_is_sent_again_when_an_operator_says_so(
    database: psycopg.Connection, ann: UUID
) -> None:
    gone = metered(database, "cus_nobody")
    use(database, gone, hour_ago(1), 7)
    metering.roll_up()
    assert meter_sender.send_due() == {"delivered": 4, "refused": 1}
    (stuck,) = meter_outbox.stuck()
    assert (stuck.state, stuck.tokens) == ("failed", 7)
    assert "No such customer" in str(stuck.problem)
    assert meter_sender.send_due() == {}
    assert meter_outbox.send_again() == 1
    assert meter_sender.send_due() == {"refused": 1}


def test_pauses_between_attempts_grow_to_ten_minutes(database: psycopg.Connection, standin: StandIn, ann: UUID) -> None:
    fail(standin, "rate_limit")
    pauses = []
    for _ in range(12):
        database.execute(
            "UPDATE meter_outbox SET next_attempt_at = CASE portion WHEN 2 THEN now() ELSE now() + interval '1 day' END"
        )
        meter_sender.send_due()
        (pause,) = one(database, "SELECT next_attempt_at - clock_timestamp() FROM meter_outbox WHERE portion = 2")
        assert isinstance(pause, timedelta)
        pauses.append(pause.total_seconds())
    assert pauses[0] <= 1
    assert 60 < pauses[7] <= 128
    assert 299 < pauses[-1] <= 600


def test_several_senders_at_once_send_each_portion_once(
    database: psycopg.Connection, standin: StandIn, stripe_customer: str
) -> None:
    ann = metered(database, stripe_customer)
    for hours in range(1, 25):
        use(database, ann, hour_ago(hours), hours)
    metering.roll_up()
    senders = [threading.Thread(target=meter_sender.send_due) for _ in range(3)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    meter_sender.send_due()
    found = at_stripe(standin, stripe_customer)
    assert [one["attempts"] for one in found.values()] == [1] * 24


def test_an_end_that_is_asked_for_finishes_what_is_under_way(database: psycopg.Connection, ann: UUID) -> None:
    ended = threading.Event()
    ended.set()
    assert meter_sender.send_due(ended) == {}
    assert states(database) == {"pending": 4}


def test_a_portion_older_than_stripe_takes_is_refused_and_told(
    database: psycopg.Connection, stripe_customer: str, ann: UUID
) -> None:
    old = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=36)
    database.execute(
        "INSERT INTO meter_outbox (identifier, account_id, customer, meter, hour, portion, used_at, tokens)"
        " VALUES ('old', %s, %s, %s, %s, 1, %s, 5)",
        [ann, stripe_customer, METER, old, old],
    )
    assert meter_sender.send_due()["refused"] == 1
    assert "35 calendar days" in str(meter_outbox.stuck()[0].problem)
