"""Stacks of a file's own, for tests that kill, empty or stop what others would share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from local.stack import Stack
from tests import databases
from tests.conftest import redis_database


@contextmanager
def own_stack(
    services: Stack,
    home: Path,
    workers: int = 1,
    *,
    with_web: bool = True,
    with_stripe: bool = False,
    **settings: object,
) -> Iterator[Stack]:
    """Batchyard with processes, a database and a Redis database of its own, in the PostgreSQL and the Redis that all
    tests share: those take longer to make than all else. As each process takes seconds to start it has one web process.
    It sells nothing unless told to."""
    redis_url = redis_database(services, 8)
    with redis.Redis.from_url(redis_url) as connection:
        # The work of the stack before, whose database is gone.
        connection.flushdb()
    with databases.cloned(services) as urls:
        given = urls | {"REDIS_URL": redis_url, "WEB_PROCESSES": "1"}
        given |= {name: str(value) for name, value in settings.items()}
        with Stack(
            home,
            workers=workers,
            extra_env=given,
            with_web=with_web,
            with_stripe=with_stripe,
            durable=False,
            keep=False,
        ) as stack:
            yield stack
