"""Which deliveries are taken, how many at once, and what becomes of those whose process dies or whose endpoint ends."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import psycopg
import pytest

from common import ids
from tests import webhooks
from tests.webhooks import rows
from worker import delivery_claims, disabling
from worker.delivery_claims import MAX_DEATHS, MAX_SENDING, MAX_SENDING_FAILING, ClaimedDelivery, take
from worker.delivery_records import record
from worker.sender import Attempt

SLOTS = 64
URL = "https://example.com/"


@pytest.fixture
def account(settings: dict[str, str]) -> UUID:
    return webhooks.account()


def waiting(database: psycopg.Connection, account: UUID, events: int, number: int = 0, failing: bool = False) -> UUID:
    """An endpoint with so many events to be told."""
    endpoint_id = webhooks.endpoint(database, account, f"{URL}{number}", (), origin="submission", secret=None)
    for _ in range(events):
        database.execute(
            "SELECT write_event(%s, 'job.completed', NULL, '{}', true, %s, true)", [account, f"{URL}{number}"]
        )
    if failing:
        database.execute("UPDATE webhook_endpoints SET failing_since = now() WHERE id = %s", [endpoint_id])
    return endpoint_id


def came(delivery: ClaimedDelivery, failure: str | None = None, status: int | None = None) -> Attempt:
    status = status or (500 if failure else 200)
    return Attempt(delivery, time.monotonic() - 0.5, 0.25, failure, status, b"said")


def by_endpoint(taken: Sequence[ClaimedDelivery]) -> Counter[UUID]:
    return Counter(delivery.endpoint_id for delivery in taken)


def states(database: psycopg.Connection) -> Counter[str]:
    return Counter(row["state"] for row in rows(database, "SELECT state FROM deliveries"))


def test_an_endpoint_has_so_many_in_flight_and_no_more(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, MAX_SENDING + 5)
    first = take(SLOTS, SLOTS)
    assert by_endpoint(first) == {endpoint_id: MAX_SENDING}
    assert take(SLOTS, SLOTS) == []
    record([came(first[0]), came(first[1])])
    assert len(take(SLOTS, SLOTS)) == 2
    assert states(database) == {"delivered": 2, "sending": MAX_SENDING, "pending": 3}


def test_one_that_fails_has_two(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, MAX_SENDING, failing=True)
    taken = take(SLOTS, SLOTS)
    assert by_endpoint(taken) == {endpoint_id: MAX_SENDING_FAILING}
    # And all its places again with the first 2xx.
    record([came(taken[0])])
    assert len(take(SLOTS, SLOTS)) == MAX_SENDING - 2


def test_all_failing_endpoints_of_an_account_have_a_quarter_of_the_slots(
    database: psycopg.Connection, account: UUID
) -> None:
    slots = 16
    for number in range(8):
        waiting(database, account, 2, number, failing=True)
    healthy = waiting(database, account, 2, 8)
    other = waiting(database, webhooks.account(), 2, failing=True)
    found = by_endpoint(take(slots, slots))
    assert found.pop(healthy) == 2
    assert found.pop(other) == 2
    assert sum(found.values()) == slots // 4
    # Also over several claims.
    assert take(slots, slots) == []


def test_endpoints_take_turns_and_each_has_its_oldest_first(database: psycopg.Connection, account: UUID) -> None:
    many = waiting(database, account, MAX_SENDING, 1)
    few = [waiting(database, account, 1, number) for number in (2, 3)]
    taken = take(4, SLOTS)
    assert by_endpoint(taken) == {many: 2, few[0]: 1, few[1]: 1}
    oldest = rows(database, "SELECT id FROM deliveries WHERE endpoint_id = %s ORDER BY created_at LIMIT 2", many)
    assert {row["id"] for row in oldest} == {delivery.id for delivery in taken if delivery.endpoint_id == many}


def test_endpoints_that_are_not_found_out_yet_leave_room_for_others(
    database: psycopg.Connection, account: UUID
) -> None:
    for number in range(20):
        waiting(database, account, MAX_SENDING, number)
    taken = take(SLOTS, SLOTS)
    # Above half of the slots nobody has more than two.
    assert len(taken) == 20 * MAX_SENDING_FAILING
    late = waiting(database, account, 2, 20)
    assert by_endpoint(take(SLOTS - len(taken), SLOTS)) == {late: 2}


def test_what_is_not_due_is_left(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, 2)
    database.execute("UPDATE deliveries SET next_attempt_at = now() + interval '2 seconds'")
    assert take(SLOTS, SLOTS) == []
    webhooks.due_now(database, endpoint_id)
    assert len(take(SLOTS, SLOTS)) == 2


def test_processes_that_claim_at_once_take_nothing_twice_and_pass_no_limit(
    database: psycopg.Connection, account: UUID
) -> None:
    endpoints = [waiting(database, account, 2 * MAX_SENDING, number) for number in range(3)]
    taken: list[ClaimedDelivery] = []
    threads = [threading.Thread(target=lambda: taken.extend(take(SLOTS, SLOTS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert by_endpoint(taken) == dict.fromkeys(endpoints, MAX_SENDING)
    assert len({delivery.id for delivery in taken}) == len(taken)


def end_leases(database: psycopg.Connection) -> None:
    database.execute("UPDATE deliveries SET lease_until = now() - interval '1 second' WHERE state = 'sending'")


def test_a_delivery_whose_process_died_is_due_again_at_once_and_its_attempt_says_so(
    database: psycopg.Connection, account: UUID
) -> None:
    endpoint_id = waiting(database, account, 1)
    take(SLOTS, SLOTS)
    assert delivery_claims.give_back_ended() == 0
    end_leases(database)
    assert delivery_claims.give_back_ended() == 1
    found = webhooks.delivery(database, endpoint_id)
    assert [(a["number"], a["failure"]) for a in found["log"]] == [(1, "process_died")]
    (again,) = take(SLOTS, SLOTS)
    # The schedule goes on as if there had been none.
    assert (again.number, again.scheduled) == (2, 1)


def test_a_stale_deliverer_can_write_nothing(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, 1)
    (stale,) = take(SLOTS, SLOTS)
    end_leases(database)
    delivery_claims.give_back_ended()
    record([came(stale)])
    assert webhooks.delivery(database, endpoint_id)["state"] == "pending"
    (current,) = take(SLOTS, SLOTS)
    record([came(stale, "timed_out")])
    assert webhooks.delivery(database, endpoint_id)["state"] == "sending"
    record([came(current)])
    record([came(current, "timed_out")])
    found = webhooks.delivery(database, endpoint_id)
    assert found["state"] == "delivered"
    assert [a["failure"] for a in found["log"]] == ["process_died", None]


def test_a_delivery_that_keeps_killing_its_process_fails(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, 1)
    for _ in range(MAX_DEATHS):
        assert len(take(SLOTS, SLOTS)) == 1
        end_leases(database)
        delivery_claims.give_back_ended()
    assert webhooks.delivery(database, endpoint_id)["state"] == "failed"


def endpoint_row(database: psycopg.Connection, endpoint_id: UUID) -> dict[str, object]:
    (found,) = rows(database, "SELECT * FROM webhook_endpoints WHERE id = %s", endpoint_id)
    return found


def test_failing_since_is_the_first_failure_after_the_last_2xx(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, 6)
    first, second, third, *others = take(SLOTS, SLOTS)
    record([came(first, "timed_out")])
    since = endpoint_row(database, endpoint_id)["failing_since"]
    assert since is not None
    record([came(second, "bad_status")])
    assert endpoint_row(database, endpoint_id)["failing_since"] == since
    record([came(third)])
    assert endpoint_row(database, endpoint_id)["failing_since"] is None
    # In one group as one after the other: the later one counts.
    record([came(others[0]), came(others[1], "timed_out")])
    assert endpoint_row(database, endpoint_id)["failing_since"] is not None


def test_a_410_disables_the_endpoint_fails_what_waits_for_it_and_tells_the_owner(
    database: psycopg.Connection, account: UUID
) -> None:
    endpoint_id = waiting(database, account, 3)
    other = webhooks.endpoint(database, account, URL, ("webhook_endpoint.disabled",))
    gone, *_ = take(1, SLOTS)
    record([came(gone, "gone", 410)])
    endpoint = endpoint_row(database, endpoint_id)
    assert (endpoint["state"], endpoint["disabled_reason"]) == ("disabled", "gone")
    found = rows(database, "SELECT state FROM deliveries WHERE endpoint_id = %s", endpoint_id)
    assert [row["state"] for row in found] == ["failed"] * 3
    failures = Counter(row["failure"] for row in rows(database, "SELECT failure FROM attempts"))
    assert failures == {"gone": 1, "endpoint_disabled": 2}
    (told,) = take(SLOTS, SLOTS)
    assert told.endpoint_id == other
    (event,) = rows(database, "SELECT data FROM events WHERE type = 'webhook_endpoint.disabled'")
    assert event["data"] == {"id": ids.show("we_", endpoint_id), "reason": "gone"}


def test_five_days_of_failures_disable_the_endpoint(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, 2)
    first, second = take(SLOTS, SLOTS)
    database.execute("UPDATE webhook_endpoints SET failing_since = now() - interval '4 days 23 hours'")
    record([came(first, "timed_out")])
    assert endpoint_row(database, endpoint_id)["state"] == "enabled"
    database.execute("UPDATE webhook_endpoints SET failing_since = now() - interval '5 days 1 minute'")
    record([came(second, "timed_out")])
    assert endpoint_row(database, endpoint_id)["disabled_reason"] == "failing"
    assert states(database) == {"failed": 2}
    assert len(rows(database, "SELECT id FROM events WHERE type = 'webhook_endpoint.disabled'")) == 1


def test_nothing_stays_pending_for_a_disabled_endpoint(database: psycopg.Connection, account: UUID) -> None:
    endpoint_id = waiting(database, account, 2)
    (under_way, *_) = take(1, SLOTS)
    database.execute(
        "UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = 'requested', disabled_at = now()"
    )
    assert take(SLOTS, SLOTS) == []
    assert disabling.fail_stranded() == 1
    record([came(under_way, "timed_out")])
    assert disabling.fail_stranded() == 1
    assert disabling.fail_stranded() == 0
    assert states(database) == {"failed": 2}
    assert endpoint_row(database, endpoint_id)["disabled_reason"] == "requested"
