"""Requests that are held up where they write, by a trigger of the test's own: nothing in the product knows of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import psycopg
from psycopg import sql

from tests.databases import one
from tests.waiting import wait_for

LOCK = 4_711
# Of a table of which all POSTs write a row: at the end of the transaction, or where the row is written.
WHERE: dict[str, sql.SQL] = {
    "commit": sql.SQL(
        "CREATE CONSTRAINT TRIGGER held AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION hold()"
    ),
    "answer": sql.SQL("CREATE TRIGGER held BEFORE UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION hold()"),
}


class Held:
    """Requests under a key that stand still, until they are let go."""

    def __init__(self, database: psycopg.Connection) -> None:
        self._database = database

    def wait_for(self, requests: int = 1) -> None:
        """Until so many stand still."""
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
        wait_for(lambda: one(self._database, query), lambda found: found == (requests,))

    def let_go(self) -> None:
        self._database.execute("SELECT pg_advisory_unlock_all()")

    def end(self) -> None:
        """Ends their connections, as if PostgreSQL had been restarted: they are rolled back."""
        self._database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
        )


@contextmanager
def held(database: psycopg.Connection, at: Literal["commit", "answer"] = "commit") -> Iterator[Held]:
    """Within it every request under a key stands still at its commit, or before its answer is written."""
    database.execute(
        sql.SQL(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock_shared({}); RETURN NEW; END $$"
        ).format(LOCK)
    )
    database.execute(WHERE[at])
    database.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    requests = Held(database)
    try:
        yield requests
    finally:
        requests.let_go()
        database.execute("DROP TRIGGER held ON idempotency_keys")
        database.execute("DROP FUNCTION hold")
