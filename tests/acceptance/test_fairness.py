"""What one account's work costs another's, counted in rows that came before and not in seconds: docs/fairness.md."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import UUID

import psycopg
import pytest

from common import accounts, keys
from local.stack import Stack
from tests.customer import Customer
from tests.databases import one
from tests.process_settings import process_settings
from tests.stacks import own_stack
from tests.waiting import wait_for

CONCURRENCY = 16
# As worker/generator.py has it: claimed at once, and ahead of the calls.
CLAIM_ROWS = CONCURRENCY // 2
CLAIMED = CONCURRENCY + CLAIM_ROWS + 32
SMALL_ROWS = 40
MODEL = "sim-latency-200ms"
# So long that none ends while a single job is waited for.
SLOW_MODEL = "sim-latency-30000ms"
LONGEST_SECONDS = 120

NewCustomer = Callable[[str], Customer]


@pytest.fixture(scope="module")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with own_stack(services, tmp_path_factory.mktemp("stack"), WORKER_CONCURRENCY=CONCURRENCY) as stack:
        yield stack


@pytest.fixture
def new_customer(stack: Stack) -> Iterator[NewCustomer]:
    """Makes a customer on a plan."""
    with ExitStack() as opened:

        def make(plan: str) -> Customer:
            with process_settings(stack.env):
                key = keys.create(accounts.create(f"A {plan} account", plan).id, "test")
            return opened.enter_context(Customer(stack.base_url, key))

        yield make


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        yield connection


def begin(customer: Customer, rows: int, model: str = MODEL) -> UUID:
    content = "text\n" + "".join(f"row {number}\n" for number in range(rows))
    return UUID(customer.create_batch(content.encode(), model=model)["id"].removeprefix("batch_"))


def ended(database: psycopg.Connection, batch_id: UUID) -> int:
    found = one(database, "SELECT succeeded FROM batches WHERE id = %s", batch_id)[0]
    assert isinstance(found, int)
    return found


def cancel(customer: Customer, batch_id: UUID) -> None:
    customer.post(f"/v1/batches/batch_{batch_id.hex}/cancel")
    customer.ended_batch(f"batch_{batch_id.hex}", LONGEST_SECONDS)


def test_a_small_batch_waits_for_what_is_claimed_and_then_gets_every_second_place(
    new_customer: NewCustomer, database: psycopg.Connection
) -> None:
    busy, small = new_customer("pro"), new_customer("pro")
    large = begin(busy, 5_000)
    wait_for(lambda: ended(database, large), lambda rows: rows > CLAIMED, LONGEST_SECONDS)
    batch_id = begin(small, SMALL_ROWS)
    small.ended_batch(f"batch_{batch_id.hex}", LONGEST_SECONDS)
    (meanwhile,) = one(
        database,
        "SELECT count(*) FROM results r, batches b WHERE b.id = %s AND r.batch_id = %s"
        " AND r.finished_at BETWEEN b.in_progress_at AND b.ended_at",
        batch_id,
        large,
    )
    assert isinstance(meanwhile, int)
    # Its own rows in turn with the other's, what had been claimed, and the calls beside its last.
    assert meanwhile <= SMALL_ROWS + CLAIMED + CONCURRENCY
    cancel(busy, large)


def test_a_single_job_starts_before_the_rows_that_its_own_account_has_waiting(
    new_customer: NewCustomer, database: psycopg.Connection
) -> None:
    busy = new_customer("pro")
    large = begin(busy, 5_000)
    wait_for(lambda: ended(database, large), lambda rows: rows > CLAIMED, LONGEST_SECONDS)
    for _ in range(3):
        job = busy.submit({"model": "sim", "prompt": "Hi"}, wait=30)
        (meanwhile,) = one(
            database,
            "SELECT count(*) FROM results WHERE batch_id = %s"
            " AND finished_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)",
            large,
            job["created_at"],
            job["started_at"],
        )
        assert isinstance(meanwhile, int)
        # Until a claim may be made again, or a place beyond the room is looked for.
        assert meanwhile <= 2 * CONCURRENCY
    cancel(busy, large)


def test_a_single_job_starts_though_calls_that_do_not_end_fill_the_process(
    new_customer: NewCustomer, database: psycopg.Connection
) -> None:
    busy = new_customer("pro")
    slow = begin(busy, 5_000, SLOW_MODEL)
    leased = "SELECT coalesce(sum(pending), 0) FROM claims WHERE batch_id = %s AND state = 'leased'"
    wait_for(lambda: one(database, leased, slow)[0], lambda rows: rows == CLAIMED, LONGEST_SECONDS)
    # The other account is not the fairest either.
    for of in (busy, new_customer("free")):
        assert of.submit({"model": "sim", "prompt": "Hi"}, wait=20)["status"] == "completed"
    assert ended(database, slow) == 0
    cancel(busy, slow)


def test_a_free_account_gets_its_share_of_calls_among_saturated_plans(
    new_customer: NewCustomer, database: psycopg.Connection
) -> None:
    customers = {plan: new_customer(plan) for plan in ("team", "pro", "free")}
    batch_ids = {plan: begin(customer, 5_000) for plan, customer in customers.items()}
    wait_for(lambda: min(ended(database, found) for found in batch_ids.values()), bool, LONGEST_SECONDS)
    before = {plan: ended(database, found) for plan, found in batch_ids.items()}
    counted: dict[str, int] = {}

    def rows() -> int:
        counted.update({plan: ended(database, found) - before[plan] for plan, found in batch_ids.items()})
        return sum(counted.values())

    wait_for(rows, lambda found: found >= 800, LONGEST_SECONDS)
    shares = {plan: count / sum(counted.values()) for plan, count in counted.items()}
    assert shares["free"] >= 0.08, shares
    assert shares["pro"] >= 0.25, shares
    assert shares["team"] >= 0.5, shares
    for plan, customer in customers.items():
        cancel(customer, batch_ids[plan])
