"""How long events are kept, with their deliveries and attempts."""

from uuid import UUID

import psycopg
import pytest

from common import ids
from tests import webhooks
from tests.webhooks import rows
from worker import event_retention, retention


@pytest.fixture
def account(settings: dict[str, str]) -> UUID:
    return webhooks.account()


def old_event(database: psycopg.Connection, account: UUID, days: float, states: tuple[str, ...] = ()) -> None:
    """An event of so many days ago, with a delivery in each state."""
    (event,) = rows(
        database,
        "INSERT INTO events (id, account_id, type, data, created_at) VALUES"
        " (uuidv7(make_interval(secs => -86400 * %s::float)), %s, 'batch.completed', '{}', now()) RETURNING id",
        days,
        account,
    )
    for state in states:
        endpoint_id = webhooks.endpoint(database, account, "https://example.com")
        delivery_id = ids.new_id()
        database.execute(
            "INSERT INTO deliveries (id, account_id, event_id, endpoint_id, state, attempts, scheduled,"
            " next_attempt_at, lease_until, ended_at) VALUES (%s, %s, %s, %s, %s, 1, 1,"
            " CASE WHEN %s = 'pending' THEN now() END, CASE WHEN %s = 'sending' THEN now() END,"
            " CASE WHEN %s IN ('delivered', 'failed') THEN now() END)",
            [delivery_id, account, event["id"], endpoint_id, *[state] * 4],
        )
        database.execute(
            "INSERT INTO attempts (delivery_id, number, account_id, started_at, milliseconds)"
            " VALUES (%s, 1, %s, now(), 1)",
            [delivery_id, account],
        )


def counts(database: psycopg.Connection) -> list[int]:
    (found,) = rows(
        database,
        "SELECT (SELECT count(*) FROM events) AS e, (SELECT count(*) FROM deliveries) AS d,"
        " (SELECT count(*) FROM attempts) AS a",
    )
    return list(found.values())


def test_events_go_with_their_plans_retention_and_take_their_log_along(
    database: psycopg.Connection, account: UUID
) -> None:
    # The plan keeps results for 30 days.
    for days in (29.9, 30.1, 400):
        old_event(database, account, days, ("delivered", "failed"))
    retention.run()
    assert counts(database) == [1, 2, 2]
    retention.run()
    assert counts(database) == [1, 2, 2]


def test_an_accounts_own_retention_counts_and_nobody_elses_events_go(
    database: psycopg.Connection, account: UUID
) -> None:
    database.execute("""UPDATE accounts SET overrides = '{"retention_days": 3}' WHERE id = %s""", [account])
    old_event(database, account, 4)
    old_event(database, webhooks.account("Another"), 4)
    event_retention.delete_events()
    assert counts(database) == [1, 0, 0]


@pytest.mark.parametrize("state", ["pending", "sending"])
def test_an_event_of_which_a_delivery_is_open_stays(database: psycopg.Connection, account: UUID, state: str) -> None:
    old_event(database, account, 40, ("delivered", state))
    old_event(database, account, 35, ("delivered",))
    event_retention.delete_events()
    assert counts(database) == [1, 2, 2]


def test_more_than_a_step_goes_in_one_pass(database: psycopg.Connection, account: UUID) -> None:
    database.execute(
        "INSERT INTO events (id, account_id, type, data)"
        " SELECT uuidv7(-interval '40 days'), %s, 'batch.completed', '{}' FROM generate_series(1, %s)",
        [account, event_retention.EVENTS_PER_STEP * 2 + 1],
    )
    event_retention.delete_events()
    assert counts(database) == [0, 0, 0]
