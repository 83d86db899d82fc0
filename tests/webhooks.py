"""Endpoints, events and what became of them, as rows: for tests of what delivers them."""

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from common import accounts, ids, webhook_secrets

SECRET = webhook_secrets.new()


def account(name: str = "Webhooks") -> UUID:
    return accounts.create(name, "pro").id


def endpoint(
    database: psycopg.Connection, of: UUID, url: str, types: Sequence[str] = ("batch.completed",), **columns: Any
) -> UUID:
    """An endpoint of the account, enabled and signed with SECRET unless `columns` say otherwise."""
    endpoint_id = ids.new_id()
    values = {"event_types": list(types), "secret": webhook_secrets.seal(SECRET)} | columns
    database.execute(
        psycopg.sql.SQL("INSERT INTO webhook_endpoints (id, account_id, url, {}) VALUES (%s, %s, %s, {})").format(
            psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values)),
            psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(values)),
        ),
        [endpoint_id, of, url, *values.values()],
    )
    return endpoint_id


def event(database: psycopg.Connection, of: UUID, kind: str = "batch.completed", **data: Any) -> UUID:
    """An event of the account, written for all who want it."""
    batch_id = ids.new_id()
    shown = {"id": ids.show("batch_", batch_id)} | data
    database.execute("SELECT write_event(%s, %s, %s, %s, false)", [of, kind, batch_id, Jsonb(shown)])
    return UUID(str(rows(database, "SELECT id FROM events WHERE batch_id = %s", batch_id)[0]["id"]))


def job_events(database: psycopg.Connection, accounts: Sequence[UUID], urls: Sequence[str]) -> None:
    """An event for each URL, which a job of the account beside it is taken to have named; in one transaction."""
    database.execute(
        "SELECT write_event(account, 'job.completed', NULL, '{\"id\": \"job_0\"}', true, url, true)"
        " FROM unnest(%s::uuid[], %s::text[]) AS named (account, url)",
        [list(accounts), list(urls)],
    )


def rows(database: psycopg.Connection, query: LiteralString, *values: object) -> list[dict[str, Any]]:
    return database.cursor(row_factory=dict_row).execute(query, values).fetchall()


def delivery(database: psycopg.Connection, endpoint_id: UUID) -> dict[str, Any]:
    """The one delivery to an endpoint, with the seconds until its next attempt and all attempts so far, of one moment:
    an attempt may be made while this looks."""
    with database.transaction():
        database.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        (found,) = rows(
            database,
            "SELECT *, extract(epoch FROM next_attempt_at - now())::float AS due_in FROM deliveries"
            " WHERE endpoint_id = %s",
            endpoint_id,
        )
        found["log"] = rows(database, "SELECT * FROM attempts WHERE delivery_id = %s ORDER BY number", found["id"])
    return found


def due_now(database: psycopg.Connection, endpoint_id: UUID) -> None:
    """As if the time until the next attempt had passed."""
    database.execute(
        "UPDATE deliveries SET next_attempt_at = now() WHERE endpoint_id = %s AND state = 'pending'", [endpoint_id]
    )
