"""Receipts, ledger, outbox and Stripe's sums, account by account: nothing is off, or it is named."""

from typing import LiteralString
from uuid import UUID

import psycopg
import pytest

from common import meter_sender, metering, reconciling
from common.reconciling import Reconciled
from tests import work
from tests.metering import hour_ago
from tests.stripe_process import METER, StandIn
from worker.outcomes import record

pytestmark = pytest.mark.usefixtures("billing_on")

# Of a row of work.bulk that succeeded.
TOKENS = work.USAGE.prompt_tokens + work.USAGE.completion_tokens


@pytest.fixture
def ann(database: psycopg.Connection, stripe_customer: str) -> UUID:
    """An account that sells nothing of its first row and is billed for four others, all of them told to Stripe."""
    of = work.caller()
    work.single(of)
    record(work.outcomes(work.take()[0]))
    database.execute("INSERT INTO stripe_customers (id, account_id) VALUES (%s, %s)", [stripe_customer, of.account_id])
    database.execute(
        "UPDATE accounts SET stripe_customer_id = %s, metered_from = now() WHERE id = %s",
        [stripe_customer, of.account_id],
    )
    work.bulk(of, 4)
    record(work.outcomes(work.take()[0]))
    metering.roll_up(running_hour=True)
    assert meter_sender.send_due() == {"delivered": 1}
    return of.account_id


def reconciled() -> Reconciled:
    (found,) = reconciling.reconcile(running_hour=True)
    return found


def test_what_is_told_comes_to_the_token(ann: UUID) -> None:
    assert reconciled() == Reconciled(ann, 4 * TOKENS, ledger=0, outbox=0, waiting=0, stripe=0, problem=None)
    assert not reconciled().is_off
    assert reconciling.hours(ann) == []


def test_without_the_running_hour_what_has_just_been_used_is_left_out(ann: UUID) -> None:
    assert list(reconciling.reconcile(ann)) == []


BROKEN: list[tuple[LiteralString, str, int]] = [
    ("UPDATE quotas SET used = used - 1", "ledger", -1),
    ("DELETE FROM meter_outbox", "outbox", -4 * TOKENS),
    ("UPDATE usage_records SET prompt_tokens = prompt_tokens + 7 WHERE seq = 3", "stripe", -7),
]


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize(("breaks", "name", "difference"), BROKEN)
def test_what_is_off_is_named_with_its_difference(
    database: psycopg.Connection, breaks: LiteralString, name: str, difference: int
) -> None:
    assert database.execute(breaks).rowcount > 0
    found = reconciled()
    assert found.is_off
    assert getattr(found, name) == difference


def test_what_stripe_counted_beside_is_named_with_its_hour(standin: StandIn, stripe_customer: str, ann: UUID) -> None:
    standin.client().v1.billing.meter_events.create(
        {"event_name": METER, "payload": {"stripe_customer_id": stripe_customer, "value": "9"}}
    )
    assert reconciled().stripe == 9
    (hour,) = reconciling.hours(ann)
    assert hour.stripe - hour.delivered == 9
    assert hour.hour >= hour_ago(1)


def test_a_customer_that_stripe_has_no_more_is_named(standin: StandIn, stripe_customer: str, ann: UUID) -> None:
    standin.client().v1.customers.delete(stripe_customer)
    found = reconciled()
    assert found.is_off
    assert found.problem is not None
    assert stripe_customer in found.problem
    # Its hours cannot be asked for, which holds up nobody else's.
    assert [hour.stripe for hour in reconciling.hours(ann)] == [0]


@pytest.mark.usefixtures("ann")
def test_what_waits_is_counted_as_missing_at_stripe(database: psycopg.Connection) -> None:
    of = work.caller_of(next(iter(reconciling.reconcile(running_hour=True))).account_id)
    work.bulk(of, 2)
    record(work.outcomes(work.take()[0]))
    assert (reconciled().outbox, reconciled().stripe) == (-2 * TOKENS, -2 * TOKENS)
    metering.roll_up(running_hour=True)
    assert (reconciled().outbox, reconciled().waiting, reconciled().stripe) == (0, 2 * TOKENS, -2 * TOKENS)
    meter_sender.send_due()
    assert not reconciled().is_off
