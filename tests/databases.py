"""Databases beside the one that the services come with: each a test's own, and dropped after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from local.stack import Stack


@contextmanager
def cloned(services: Stack) -> Iterator[dict[str, str]]:
    """A database with the schema and no rows, as the two settings that lead to it."""
    template = urlsplit(services.env["DATABASE_URL"]).path.removeprefix("/")
    # Of a small database that nobody writes to, files are copied in half the time that the log of it takes.
    with _made(services, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", template) as urls:
        yield urls


@contextmanager
def empty(services: Stack) -> Iterator[dict[str, str]]:
    """A database without a schema, as the two settings that lead to it."""
    with _made(services, "CREATE DATABASE {}") as urls:
        yield urls


@contextmanager
def _made(services: Stack, statement: LiteralString, *templates: str) -> Iterator[dict[str, str]]:
    name = f"test_{uuid4().hex}"
    administration = _url(services.env["DATABASE_URL"], "postgres")
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, (name, *templates))))
        try:
            yield {setting: _url(services.env[setting], name) for setting in ("DATABASE_URL", "WEB_DATABASE_URL")}
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def one(connection: psycopg.Connection, query: LiteralString, *values: object) -> tuple[object, ...]:
    """The one row that a query finds."""
    found = connection.execute(query, values).fetchall()
    assert len(found) == 1, found
    return tuple(found[0])


def _url(url: str, database: str) -> str:
    """The same server and role, another database."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()
