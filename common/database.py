"""The door to PostgreSQL: one pool of connections for each role and process.

Two roles. The owner (`DATABASE_URL`) serves workers, migrations and the operator's command line. The web role
(`WEB_DATABASE_URL`) sees the rows of one account at a time, and row-level security holds it to that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import Connection as PsycopgConnection
from psycopg import Cursor
from psycopg.rows import dict_row, namedtuple_row
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError

from common import together
from common.once import Once
from common.settings import settings
from common.together import Whole

# A server that vanished without a word must not hold a request for the quarter of an hour that TCP would wait.
_GIVE_UP = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


STATEMENTS_AT_ONCE = 8


def sqlalchemy_url(url: str) -> str:
    """The same URL, naming the driver."""
    return "postgresql+psycopg://" + url.split("://", 1)[1]


def _engine(url: str, pool_size: int, max_overflow: int = 4, **options: Any) -> Engine:
    return create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_use_lifo=True,
        # Errors are logged, and what was being written is the customer's.
        hide_parameters=True,
        connect_args={"application_name": "batchyard"} | _GIVE_UP,
        **options,
    )


@Once
def owner_engine() -> Engine:
    return _engine(settings().database_url, pool_size=4)


@Once
def web_engine() -> Engine:
    return _engine(settings().web_database_url, pool_size=settings().web_requests_at_once)


@Once
def _statements() -> Engine:
    """The web role's connections for statements of which each is a transaction by itself. Few, for they are short."""
    return _engine(settings().web_database_url, pool_size=STATEMENTS_AT_ONCE, max_overflow=0, pool_reset_on_return=None)


@contextmanager
def as_account(account_id: UUID) -> Iterator[Connection]:
    """A transaction of the web role that sees the rows of one account; committed at the end, rolled back on error.
    Where a request has one transaction for everything, a part of that."""
    whole = together.current()
    with _as_account(account_id) if whole is None else whole.part() as connection:
        yield connection


@contextmanager
def as_owner() -> Iterator[Connection]:
    """As as_account, of the owner, who sees the rows of all."""
    whole = together.current()
    if whole is not None and not whole.of_owner:
        raise RuntimeError("the request's one transaction is an account's: the owner has no part in it")
    with owner_engine().begin() if whole is None else whole.part() as connection:
        yield connection


def read_all(statement: LiteralString, parameters: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    """The rows of a read of the web role, in one trip to the database: around it there is no transaction. A connection
    that the server has closed meanwhile is found out here, and another is taken."""
    try:
        return _run(statement, parameters)
    except _Lost:
        return _run(statement, parameters)


def read_account(account_id: UUID, statement: LiteralString, parameters: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """The rows of one read that sees the rows of one account. As read_all, a single trip: what begins and ends its
    transaction goes with it."""
    whole = together.current()
    if whole is not None:
        with whole.part() as part:
            return [dict(row._mapping) for row in part.exec_driver_sql(statement, dict(parameters))]
    try:
        return _read_account(account_id, statement, parameters)
    except _Lost:
        return _read_account(account_id, statement, parameters)


def _read_account(
    account_id: UUID, statement: LiteralString, parameters: Mapping[str, Any]
) -> Sequence[dict[str, Any]]:
    with _autocommit() as connection:
        with connection.pipeline():
            connection.execute("BEGIN READ ONLY")
            connection.execute(_SET_ACCOUNT, {"account_id": str(account_id)})
            rows = connection.cursor(row_factory=dict_row).execute(statement, parameters)
            connection.execute("COMMIT")
        return rows.fetchall()


def write_one(statement: LiteralString, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The row of a statement that is a transaction of the web role by itself, and says in it whose rows it sees."""
    whole = together.current()
    if whole is not None:
        with whole.part() as part:
            found = part.exec_driver_sql(statement, dict(parameters)).one_or_none()
            return tuple(found) if found is not None else None
    rows = _run(statement, parameters)
    return rows[0] if rows else None


def _run(statement: LiteralString, parameters: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    with _autocommit() as connection:
        return connection.execute(statement, parameters).fetchall()


def named(connection: PsycopgConnection, statement: LiteralString, parameters: Mapping[str, Any]) -> Cursor[Any]:
    """Runs a statement whose rows have their columns as attributes."""
    return connection.cursor(row_factory=namedtuple_row).execute(statement, parameters)


class _Lost(OperationalError):
    """A connection that was there failed."""


@contextmanager
def driver_as_owner() -> Iterator[PsycopgConnection]:
    """As as_owner, on the driver's own connection and never a part of a request: for what every job passes through.
    What goes wrong is raised as SQLAlchemy would raise it."""
    with _driver(owner_engine()) as connection:
        yield connection
        connection.commit()


@contextmanager
def _autocommit() -> Iterator[PsycopgConnection]:
    with _driver(_statements()) as connection:
        if not connection.autocommit:
            # It is new.
            connection.autocommit = True
        yield connection


@contextmanager
def _driver(engine: Engine) -> Iterator[PsycopgConnection]:
    """The driver's own connection: for what every request or job does, where SQLAlchemy would take longer than
    PostgreSQL."""
    try:
        pooled = engine.raw_connection()
    except psycopg.OperationalError as error:
        raise OperationalError("connecting", None, error) from error
    try:
        # SQLAlchemy does not say which driver's connection it gives.
        connection: PsycopgConnection = pooled.driver_connection  # type: ignore[assignment]
        yield connection
    except BaseException as error:
        # Nobody knows in which state it is.
        pooled.invalidate(error)
        if isinstance(error, psycopg.Error):
            raise _as_sqlalchemy(error, engine) from error
        raise
    else:
        pooled.close()


def _as_sqlalchemy(error: psycopg.Error, engine: Engine) -> Exception:
    if isinstance(error, psycopg.OperationalError):
        # As SQLAlchemy does, the others go too: they lead to the same server.
        engine.dispose()
        return _Lost("a statement of the driver", None, error)
    return DBAPIError.instance("a statement of the driver", None, error, psycopg.Error)


def whole_of_account(account_id: UUID, first: Callable[[Connection], None]) -> Whole:
    """For `together`: one transaction of the web role, which begins with `first`."""
    return Whole(partial(_as_account, account_id), first, of_owner=False)


def whole_of_owner(first: Callable[[Connection], None]) -> Whole:
    """As whole_of_account, of the owner. The parts that are an account's see the rows of all in it."""
    return Whole(_as_owner, first, of_owner=True)


@contextmanager
def _as_account(account_id: UUID) -> Iterator[Connection]:
    with web_engine().begin() as connection:
        connection.exec_driver_sql(_SET_ACCOUNT, {"account_id": str(account_id)})
        yield connection


def _as_owner() -> AbstractContextManager[Connection]:
    return owner_engine().begin()


_SET_ACCOUNT: LiteralString = "SELECT set_config('batchyard.account_id', %(account_id)s, true)"
