"""One transaction for all the verbs of a request: together they are committed, and what was put off follows that."""

from contextlib import suppress
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from common import batches, queue
from common.batches import Options
from common.database import as_account, as_owner, whole_of_account, whole_of_owner
from common.errors import NotFound
from common.keys import Caller
from common.together import Whole, apart, together
from tests import work
from tests.databases import one

CHAT = "/v1/chat/completions"


@pytest.fixture
def caller(database: psycopg.Connection) -> Caller:
    return work.caller()


def nothing(connection: Connection) -> None:
    """What a whole begins with in these tests."""


def of(caller: Caller) -> Whole:
    return whole_of_account(caller.account_id, nothing)


def create(caller: Caller) -> UUID:
    """A verb that stores a file and writes two rows, and then has a worker read them."""
    batch_id = batches.create_inline(caller, Options("inline", CHAT), [work.request(0)])
    queue.enqueue_ingest(batch_id)
    return batch_id


def create_and_fail(caller: Caller) -> None:
    create(caller)
    raise NotFound("not there")


def create_at_any_price(caller: Caller) -> None:
    with suppress(NotFound):
        create(caller)
    create(caller)


def counts(database: psycopg.Connection) -> tuple[object, ...]:
    """Committed batches and files."""
    return one(database, "SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM files)")


def tasks() -> int:
    return len(queue.queue(queue.INGESTS_QUEUE).jobs)


def test_verbs_are_committed_together_and_workers_hear_of_them_after_that(
    caller: Caller, database: psycopg.Connection
) -> None:
    with together(of(caller)):
        ours = [create(caller) for _ in range(2)]
        found = batches.list_bulk(caller.account_id, None, 10)
        assert [batch.id for batch in found] == ours[::-1], "a request sees what it wrote itself"
        assert (counts(database), tasks()) == ((0, 0), 0)
    assert (counts(database), tasks()) == ((2, 2), 2)
    create(caller)
    assert (counts(database), tasks()) == ((3, 3), 3)


def test_an_error_undoes_all_of_them_and_workers_hear_of_none(caller: Caller, database: psycopg.Connection) -> None:
    with pytest.raises(NotFound), together(of(caller)):
        create_and_fail(caller)
    assert (counts(database), tasks()) == ((0, 0), 0)


def test_a_verbs_error_undoes_its_own_part_where_the_request_goes_on(
    caller: Caller, database: psycopg.Connection
) -> None:
    with together(of(caller)):
        with pytest.raises(NotFound), as_account(caller.account_id):
            create_and_fail(caller)
        # One after which PostgreSQL would take nothing more.
        with pytest.raises(DBAPIError), as_account(caller.account_id) as connection:
            connection.execute(text("SELECT 1 / 0"))
        batch_id = create(caller)
    assert counts(database) == (1, 1)
    assert one(database, "SELECT id FROM batches") == (batch_id,)


def test_what_it_begins_with_comes_before_every_verb_and_its_error_is_the_requests(
    caller: Caller, database: psycopg.Connection
) -> None:
    def refuse(connection: Connection) -> None:
        raise NotFound("not there")

    with pytest.raises(NotFound), together(whole_of_account(caller.account_id, refuse)):
        create_at_any_price(caller)
    assert counts(database) == (0, 0)


def test_nothing_is_open_before_the_first_verb_needs_it_nor_in_what_stands_apart(
    caller: Caller, database: psycopg.Connection
) -> None:
    opened = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    with together(of(caller)):
        assert one(database, opened) == (0,)
        with apart():
            create(caller)
            assert (one(database, opened), counts(database), tasks()) == ((0,), (1, 1), 1)
        create(caller)
        assert (one(database, opened), counts(database), tasks()) == ((1,), (1, 1), 1)
    assert (one(database, opened), counts(database), tasks()) == ((0,), (2, 2), 2)


def suspend(caller: Caller) -> None:
    """A verb of the operator's."""
    with as_owner() as connection:
        connection.execute(text("UPDATE accounts SET state = 'suspended' WHERE id = :id"), {"id": caller.account_id})


def create_and_suspend(caller: Caller) -> None:
    create(caller)
    suspend(caller)


def test_an_owners_transaction_takes_in_the_verbs_of_accounts(caller: Caller, database: psycopg.Connection) -> None:
    state = "SELECT state FROM accounts"
    with together(whole_of_owner(nothing)):
        create_and_suspend(caller)
        assert (one(database, state), counts(database)) == (("active",), (0, 0))
    assert (one(database, state), counts(database)) == (("suspended",), (1, 1))


def test_an_accounts_transaction_never_becomes_the_owners(caller: Caller, database: psycopg.Connection) -> None:
    with pytest.raises(RuntimeError, match="owner"), together(of(caller)):
        create_and_suspend(caller)
    assert (one(database, "SELECT state FROM accounts"), counts(database)) == (("active",), (0, 0))
    suspend(caller)
    assert one(database, "SELECT state FROM accounts") == ("suspended",)
