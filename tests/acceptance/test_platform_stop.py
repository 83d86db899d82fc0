"""The operator's switch: calls in flight end and are recorded, nothing new starts, and all goes on afterwards."""

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from local.stack import Stack
from tests.conftest import NewCustomer
from tests.customer import batch_uuid
from tests.databases import one
from tests.exact import check_counters_are_sums
from tests.waiting import wait_for

ROWS = 700


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection]:
    """The stack's database, with the platform running again at the end."""
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        yield connection
        _switch(connection, on=True)


def _switch(database: psycopg.Connection, *, on: bool) -> None:
    values = "NULL, stopped_reason = NULL" if on else "now(), stopped_reason = 'a test'"
    database.execute(f"UPDATE platform SET stopped_at = {values}".encode())


def test_stopping_the_platform_starts_nothing_new_and_resuming_it_loses_and_repeats_nothing(
    new_customer: NewCustomer, database: psycopg.Connection
) -> None:
    customer = new_customer()
    content = b"text\n" + b"".join(b"row %d of a stopped batch\n" % number for number in range(ROWS))
    created = customer.create_batch(content, model="sim-latency-3s")
    batch_id, own = created["id"], batch_uuid(created)
    query: LiteralString = "SELECT coalesce(sum(pending), 0)::int FROM claims WHERE batch_id = %s AND state = 'leased'"

    def leased() -> tuple[object, ...]:
        return one(database, query, own)

    # More rows are under claims than there are calls in flight: those that wait must not begin.
    wait_for(leased, lambda found: found > (300,))
    _switch(database, on=False)
    wait_for(leased, lambda found: found == (0,))
    ended = customer.batch(batch_id)["counts"]["succeeded"]
    assert 0 < ended <= 256
    assert customer.batch(batch_id)["status"] == "in_progress"
    _switch(database, on=True)
    batch = customer.ended_batch(batch_id, seconds=60)
    assert batch["counts"]["succeeded"] == ROWS
    assert one(database, "SELECT max(attempts) FROM results WHERE batch_id = %s", own) == (1,)
    check_counters_are_sums(database)
