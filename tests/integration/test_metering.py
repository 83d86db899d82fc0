"""The rollup: portions come to the receipts, to the token, whenever receipts come and however often it runs."""

import random
import threading
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors, sql

from common import metering
from common.metering import ROLLUP_LOCK
from tests.databases import one
from tests.metering import HOUR, boundary, hour_ago, metered, told, use, used
from tests.process_settings import process_settings
from tests.stripe_process import METER

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def test_an_hour_that_is_over_is_told_once_with_a_time_within_it(database: psycopg.Connection) -> None:
    ann, bob = metered(database), metered(database)
    hour = hour_ago(2)
    for minutes, tokens in ((0, 100), (20, 7), (59, 3)):
        use(database, ann, hour + minutes * MINUTE, tokens)
    use(database, ann, hour - HOUR, 50)
    use(database, bob, hour + MINUTE, 9)
    assert metering.roll_up() == 3
    assert told(database, ann) == [(hour - SECOND, 50), (hour + HOUR - SECOND, 110)]
    assert told(database, bob) == [(hour + HOUR - SECOND, 9)]
    assert metering.roll_up() == 0


def test_identifiers_name_the_account_the_meter_the_hour_and_the_portion(database: psycopg.Connection) -> None:
    ann = metered(database)
    hour = hour_ago(3)
    for _ in range(2):
        use(database, ann, hour, 5)
        metering.roll_up()
    found = [row for (row,) in database.execute("SELECT identifier FROM meter_outbox ORDER BY portion")]
    assert found == [f"acct_{ann.hex}-{METER}-{hour:%Y%m%d%H}-{portion}" for portion in (1, 2)]


def test_a_receipt_that_comes_late_is_told_as_another_portion(database: psycopg.Connection) -> None:
    ann = metered(database)
    hour = hour_ago(2)
    use(database, ann, hour, 10)
    metering.roll_up()
    use(database, ann, hour + MINUTE, 4)
    assert metering.roll_up() == 1
    assert told(database, ann) == [(hour + HOUR - SECOND, 10), (hour + HOUR - SECOND, 4)]


def test_very_late_receipts_are_told_by_the_look_of_the_day(database: psycopg.Connection) -> None:
    ann = metered(database)
    # The first pass of an installation looks at everything.
    assert metering.roll_up() == 0
    for days in (1, 20, 34):
        use(database, ann, datetime.now(UTC) - timedelta(days=days), 6)
    use(database, ann, datetime.now(UTC) - timedelta(days=36), 1_000)
    assert metering.roll_up() == 0
    database.execute("UPDATE metering SET looked_back_at = now() - interval '25 hours'")
    assert metering.roll_up() == 3
    assert sum(tokens for _, tokens in told(database, ann)) == 18
    (looked_back,) = one(database, "SELECT looked_back_at > now() - interval '1 minute' FROM metering")
    assert looked_back


def test_the_running_hour_waits_until_it_is_over_unless_it_is_asked_for(database: psycopg.Connection) -> None:
    ann = metered(database)
    use(database, ann, datetime.now(UTC), 10)
    assert metering.roll_up() == 0
    assert metering.roll_up(running_hour=True) == 1
    use(database, ann, datetime.now(UTC), 5)
    assert metering.roll_up(running_hour=True) == 1
    portions = told(database, ann)
    assert [tokens for _, tokens in portions] == [10, 5]
    # A time that is to come Stripe would refuse.
    assert all(at <= datetime.now(UTC) for at, _ in portions)


def test_only_receipts_since_the_first_subscription_are_told(database: psycopg.Connection) -> None:
    hour = hour_ago(2)
    ann = metered(database, since=hour + 10 * MINUTE)
    bob = metered(database)
    database.execute("UPDATE accounts SET stripe_customer_id = NULL WHERE id = %s", [bob])
    for account_id in (ann, bob):
        use(database, account_id, hour + 9 * MINUTE, 100)
        use(database, account_id, hour + 10 * MINUTE, 3)
    assert metering.roll_up() == 1
    assert told(database, ann) == [(hour + HOUR - SECOND, 3)]


def test_an_hour_in_which_a_period_ends_is_told_to_each_period(database: psycopg.Connection) -> None:
    ann = metered(database)
    hour = hour_ago(2)
    cut = hour + 17 * MINUTE + 5 * SECOND
    boundary(database, ann, cut)
    use(database, ann, hour, 10)
    use(database, ann, cut - timedelta(milliseconds=1), 20)
    use(database, ann, cut, 40)
    use(database, ann, hour + 59 * MINUTE, 80)
    assert metering.roll_up() == 2
    assert told(database, ann) == [(cut - SECOND, 30), (hour + HOUR - SECOND, 120)]
    use(database, ann, hour + MINUTE, 1)
    assert metering.roll_up() == 1
    assert told(database, ann)[-1] == (cut - SECOND, 1)


def test_what_a_periods_end_closes_does_not_wait_for_the_end_of_its_hour(
    database: psycopg.Connection, env: dict[str, str]
) -> None:
    """Stripe makes an invoice final an hour after its period."""
    now = datetime.now(UTC)
    # In the first minutes of an hour the period ends with the hour before.
    cut = max(now.replace(minute=0, second=0), now - 5 * MINUTE).replace(microsecond=0)
    ann = metered(database)
    boundary(database, ann, cut)
    use(database, ann, cut - SECOND / 2, 30)
    use(database, ann, now, 70)
    with process_settings(env | {"METER_DELAY_SECONDS": "0"}):
        assert metering.roll_up() == 1
    assert told(database, ann) == [(cut - SECOND, 30)]


def test_a_period_that_ends_in_an_hour_told_already_leaves_the_sum_of_the_hour(database: psycopg.Connection) -> None:
    ann = metered(database)
    hour = hour_ago(2)
    use(database, ann, hour + 5 * MINUTE, 10)
    use(database, ann, hour + 30 * MINUTE, 100)
    metering.roll_up()
    cut = hour + 20 * MINUTE
    boundary(database, ann, cut)
    assert metering.roll_up() == 0
    # All was told in the second piece, which so has 10 too much: of what comes for it, 10 go to the first.
    use(database, ann, hour + 31 * MINUTE, 15)
    metering.roll_up()
    assert told(database, ann)[1:] == [(cut - SECOND, 10), (hour + HOUR - SECOND, 5)]
    assert sum(tokens for _, tokens in told(database, ann)) == used(database, ann) == 125


def test_a_pass_beside_another_does_nothing(database: psycopg.Connection, settings: dict[str, str]) -> None:
    use(database, metered(database), hour_ago(2), 10)
    with psycopg.connect(settings["DATABASE_URL"]) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [ROLLUP_LOCK])
        assert metering.roll_up() is None
    assert metering.roll_up() == 1


def test_whatever_comes_and_however_passes_meet_portions_come_to_the_receipts(database: psycopg.Connection) -> None:
    drawn = random.Random(7)
    accounts = [metered(database) for _ in range(3)]
    first = hour_ago(5)
    for account_id in accounts:
        boundary(database, account_id, first + drawn.randrange(4 * 3_600) * SECOND)
    for turn in range(12):
        for _ in range(drawn.randrange(20)):
            at = first + timedelta(seconds=drawn.uniform(0, 5 * 3_600 - 1))
            use(database, drawn.choice(accounts), at, drawn.randrange(1, 10_000))
        if turn == 6:
            boundary(database, accounts[0], first + drawn.randrange(4 * 3_600) * SECOND)
        passes = [threading.Thread(target=metering.roll_up) for _ in range(3)]
        for each in passes:
            each.start()
        for each in passes:
            each.join()
    metering.roll_up()
    for account_id in accounts:
        assert sum(tokens for _, tokens in told(database, account_id)) == used(database, account_id) > 0
    by_hour = (
        "SELECT account_id, date_trunc('hour', created_at, 'UTC'), sum(prompt_tokens + completion_tokens)"
        " FROM usage_records GROUP BY 1, 2"
        " EXCEPT SELECT account_id, hour, sum(tokens) FROM meter_outbox GROUP BY 1, 2"
    )
    assert database.execute(by_hour).fetchall() == []


@pytest.mark.parametrize(
    "change",
    ["tokens = tokens + 1", "used_at = used_at - interval '1 second'", "customer = 'cus_2'", "identifier = 'x'"],
)
def test_what_a_portion_tells_cannot_be_changed(database: psycopg.Connection, change: LiteralString) -> None:
    use(database, metered(database), hour_ago(2), 10)
    metering.roll_up()
    with pytest.raises(errors.IntegrityConstraintViolation, match="never changes"):
        database.execute(sql.SQL("UPDATE meter_outbox SET {}").format(sql.SQL(change)))
