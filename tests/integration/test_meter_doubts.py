"""Portions of which nobody knows whether Stripe has them, once it has forgotten their identifiers: its sums tell."""

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from common import meter_alarms, meter_doubts, meter_outbox, meter_sender, metering
from common.errors import NotFound
from tests.databases import one
from tests.metering import hour_ago, metered, use
from tests.process_settings import process_settings
from tests.stripe_process import METER, StandIn

pytestmark = pytest.mark.usefixtures("billing_on")


@pytest.fixture
def ann(database: psycopg.Connection, stripe_customer: str) -> UUID:
    """Metered, with 40 tokens of an hour delivered and 2 of the same hour to be sent."""
    account_id = metered(database, stripe_customer)
    use(database, account_id, hour_ago(2), 40)
    metering.roll_up()
    assert meter_sender.send_due() == {"delivered": 1}
    use(database, account_id, hour_ago(2), 2)
    assert metering.roll_up() == 1
    return account_id


def send_into_the_unknown(standin: StandIn, database: psycopg.Connection, *, taken: bool) -> None:
    """The one that waits is sent, no answer comes, and a day goes by."""
    fault = "error_after" if taken else "error"
    standin.admin("PUT", "settings", faults=[{"path": "/v1/billing/meter_events", "fault": fault}])
    assert meter_sender.send_due() == {"unknown": 1}
    standin.admin("PUT", "settings")
    a_day_later(database)


def a_day_later(database: psycopg.Connection) -> None:
    database.execute(
        "UPDATE meter_outbox SET doubtful_since = doubtful_since - interval '1 day',"
        " delivered_at = delivered_at - interval '1 day', next_attempt_at = next_attempt_at - interval '1 day',"
        " attempted_at = attempted_at - interval '1 day'"
    )


def state(database: psycopg.Connection) -> object:
    (found,) = one(database, "SELECT state FROM meter_outbox WHERE tokens = 2")
    return found


@pytest.mark.usefixtures("ann")
def test_what_is_in_doubt_for_a_day_is_not_just_sent_again(database: psycopg.Connection, standin: StandIn) -> None:
    send_into_the_unknown(standin, database, taken=True)
    assert meter_sender.send_due() == {}
    assert len(meter_outbox.look()) == 1
    assert state(database) == "in_doubt"
    assert meter_outbox.look() == []
    assert meter_sender.send_due() == {}


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize(("taken", "then"), [(True, "delivered"), (False, "pending")])
def test_stripes_sum_of_the_hour_tells_whether_it_has_it(
    database: psycopg.Connection, standin: StandIn, stripe_customer: str, taken: bool, then: str
) -> None:
    send_into_the_unknown(standin, database, taken=taken)
    meter_outbox.look()
    assert meter_doubts.settle_by_sums() == 1
    assert state(database) == then
    meter_sender.send_due()
    assert state(database) == "delivered"
    assert standin.admin("GET", "meter_events")["totals"][stripe_customer] == 42


def test_while_something_of_the_hour_is_new_or_on_its_way_the_sum_is_not_asked(
    database: psycopg.Connection, standin: StandIn, ann: UUID
) -> None:
    send_into_the_unknown(standin, database, taken=True)
    meter_outbox.look()
    use(database, ann, hour_ago(2), 5)
    metering.roll_up()
    claimed = meter_outbox.claim(10)
    assert meter_doubts.settle_by_sums() == 0
    meter_outbox.record([meter_outbox.Outcome(portion, "unknown") for portion in claimed])
    assert meter_doubts.settle_by_sums() == 0
    meter_outbox.make_due()
    assert meter_sender.send_due() == {"delivered": 1}
    # It may not be in Stripe's sum yet.
    assert meter_doubts.settle_by_sums() == 0
    database.execute(
        "UPDATE meter_outbox SET delivered_at = delivered_at - interval '2 hours',"
        " attempted_at = attempted_at - interval '2 hours'"
    )
    assert meter_doubts.settle_by_sums() == 1
    assert state(database) == "delivered"


@pytest.mark.usefixtures("ann")
def test_the_sum_is_asked_when_it_has_the_last_attempt_too(database: psycopg.Connection, standin: StandIn) -> None:
    send_into_the_unknown(standin, database, taken=True)
    meter_outbox.look()
    # Stripe took it at the last attempt, of just now: its sum may be without it.
    database.execute("UPDATE meter_outbox SET attempted_at = now() - interval '5 minutes' WHERE tokens = 2")
    assert meter_doubts.settle_by_sums() == 0
    assert state(database) == "in_doubt"
    database.execute("UPDATE meter_outbox SET attempted_at = now() - interval '2 hours' WHERE tokens = 2")
    assert meter_doubts.settle_by_sums() == 1
    assert state(database) == "delivered"


@pytest.mark.usefixtures("ann")
def test_a_sum_that_tells_nothing_is_told_and_an_operator_ends_the_doubt(
    database: psycopg.Connection, standin: StandIn, stripe_customer: str
) -> None:
    send_into_the_unknown(standin, database, taken=True)
    meter_outbox.look()
    standin.client().v1.billing.meter_events.create(
        {
            "event_name": METER,
            "payload": {"stripe_customer_id": stripe_customer, "value": "1"},
            "timestamp": int((hour_ago(2) + timedelta(minutes=1)).timestamp()),
        }
    )
    assert meter_doubts.settle_by_sums() == 0
    (stuck,) = meter_outbox.stuck()
    assert stuck.problem == "Stripe counts 43 tokens of its hour, of which 40 are known to be delivered"
    meter_doubts.settle_by_hand(stuck.identifier, "delivered")
    assert state(database) == "delivered"
    with pytest.raises(NotFound):
        meter_doubts.settle_by_hand(stuck.identifier, "pending")


@pytest.mark.usefixtures("ann")
def test_a_customer_that_stripe_has_no_more_holds_up_no_others_doubts(
    database: psycopg.Connection, standin: StandIn, stripe_customer: str
) -> None:
    send_into_the_unknown(standin, database, taken=True)
    meter_outbox.look()
    standin.client().v1.customers.delete(stripe_customer)
    assert meter_doubts.settle_by_sums() == 0
    assert "Stripe does not tell its sum" in str(meter_outbox.stuck()[0].problem)


@pytest.mark.usefixtures("ann")
def test_the_operator_is_mailed_once_a_day_while_something_is_off(
    database: psycopg.Connection, standin: StandIn, settings: dict[str, str]
) -> None:
    assert meter_alarms.raise_alarms() == 0
    send_into_the_unknown(standin, database, taken=True)
    meter_outbox.look()
    with process_settings(settings | {"OPERATOR_EMAIL": "operator@example.com"}):
        for _ in range(3):
            assert meter_alarms.raise_alarms() == 1
        assert one(database, "SELECT recipient, template FROM mails") == ("operator@example.com", "metering_alarm")
        database.execute("UPDATE metering SET alarmed_at = now() - interval '25 hours'")
        meter_alarms.raise_alarms()
    assert one(database, "SELECT count(*) FROM mails") == (2,)


@pytest.mark.usefixtures("ann")
def test_a_portion_that_waits_for_long_is_an_alarm_before_stripes_window_closes(database: psycopg.Connection) -> None:
    other = metered(database)
    use(database, other, hour_ago(8), 3)
    database.execute("UPDATE metering SET looked_back_at = NULL")
    metering.roll_up()
    assert meter_alarms.raise_alarms() == 1
