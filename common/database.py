"""The door to PostgreSQL: one pool of connections for each role and process.

Two roles. The owner (`DATABASE_URL`) serves workers, migrations and the operator's command line. The web role
(`WEB_DATABASE_URL`) sees the rows of one account at a time, and row-level security holds it to that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, text

from common.settings import settings

# A server that vanished without a word must not hold a thread for the quarter of an hour that TCP would wait.
_GIVE_UP = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


def sqlalchemy_url(url: str) -> str:
    """The same URL, naming the driver."""
    return "postgresql+psycopg://" + url.split("://", 1)[1]


def _engine(url: str, pool_size: int) -> Engine:
    return create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=4,
        pool_use_lifo=True,
        # Errors are logged, and what was being written is the customer's.
        hide_parameters=True,
        connect_args={"application_name": "batchyard"} | _GIVE_UP,
    )


@lru_cache(maxsize=1)
def owner_engine() -> Engine:
    return _engine(settings().database_url, pool_size=4)


@lru_cache(maxsize=1)
def web_engine() -> Engine:
    return _engine(settings().web_database_url, pool_size=settings().web_threads)


@contextmanager
def as_account(account_id: UUID) -> Iterator[Connection]:
    """A transaction of the web role that sees the rows of one account; committed at the end, rolled back on error."""
    with web_engine().begin() as connection:
        connection.execute(_SET_ACCOUNT, {"account_id": str(account_id)})
        yield connection


_SET_ACCOUNT = text("SELECT set_config('batchyard.account_id', :account_id, true)")
