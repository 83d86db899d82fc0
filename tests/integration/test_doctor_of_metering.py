"""`doctor` and metering: what Stripe is not told in time is named, and what is told too often."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from common import ids, invariants, metering, metering_invariants
from tests.metering import hour_ago, metered, use


def found() -> list[str]:
    with invariants.snapshot() as connection:
        findings = metering_invariants.outbox(connection) + metering_invariants.receipts(connection)
        return [str(finding) for finding in findings]


def test_what_is_told_and_what_is_about_to_be_is_in_order(database: psycopg.Connection) -> None:
    ann = metered(database)
    for hours in (0, 1, 5):
        use(database, ann, hour_ago(hours), 10)
    assert found() == []
    metering.roll_up()
    use(database, ann, hour_ago(2), 10)
    assert found() == []


def test_usage_that_is_untold_after_a_day_and_a_look_is_named(database: psycopg.Connection) -> None:
    ann = metered(database)
    hour = (datetime.now(UTC) - timedelta(hours=40)).replace(minute=0, second=0, microsecond=0)
    use(database, ann, hour, 10)
    assert found() == [
        f"metering: {ids.show('acct_', ann)} at {hour:%Y-%m-%d %H:%M}: 0 tokens are told; its usage records come to 10"
    ]


def test_an_hour_of_which_too_much_is_told_is_named(database: psycopg.Connection) -> None:
    ann = metered(database)
    use(database, ann, hour_ago(1), 10)
    metering.roll_up()
    database.execute("UPDATE usage_records SET completion_tokens = completion_tokens - 1")
    (line,) = found()
    assert line.endswith(": 10 tokens are told; its usage records come to 9")


def failed(database: psycopg.Connection) -> None:
    database.execute("UPDATE meter_outbox SET state = 'failed', next_attempt_at = NULL, problem = 'No such customer'")


def in_doubt(database: psycopg.Connection) -> None:
    database.execute(
        "UPDATE meter_outbox SET state = 'in_doubt', next_attempt_at = NULL, attempts = 1, attempted_at = now(),"
        " doubtful_since = now()"
    )


def late(database: psycopg.Connection) -> None:
    """It waits as it is."""


@pytest.mark.parametrize(
    ("becomes", "named"),
    [
        (failed, "were refused by Stripe (No such customer)"),
        (in_doubt, "may be at Stripe or not, and its sums do not tell"),
        (late, "are not delivered; the first can be until "),
    ],
)
def test_portions_that_do_not_reach_stripe_are_named_with_the_reason(
    database: psycopg.Connection, becomes: Callable[[psycopg.Connection], None], named: str
) -> None:
    ann = metered(database)
    use(database, ann, hour_ago(8), 10)
    metering.roll_up()
    becomes(database)
    (line,) = found()
    assert line.startswith(f"metering: {ids.show('acct_', ann)}: 1 portions with 10 tokens, from ")
    assert named in line
