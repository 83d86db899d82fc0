"""Accounts that are metered and their receipts, as a test wants them, written by the owner."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from common import accounts
from tests.databases import one

HOUR = timedelta(hours=1)


def hour_ago(hours: int = 1) -> datetime:
    """The beginning of an hour that is over, for as long as METER_DELAY_SECONDS: of the last, or of one before."""
    over = datetime.now(UTC) - timedelta(minutes=3)
    return over.replace(minute=0, second=0, microsecond=0) - hours * HOUR


def metered(database: psycopg.Connection, customer: str | None = None, since: datetime | None = None) -> UUID:
    """A new account that Stripe has as a customer, metered for two months unless told otherwise."""
    account_id = accounts.create("Ann", "pro").id
    customer = customer or f"cus_{account_id.hex[-12:]}"
    since = since or datetime.now(UTC) - timedelta(days=60)
    database.execute("INSERT INTO stripe_customers (id, account_id) VALUES (%s, %s)", [customer, account_id])
    database.execute(
        "UPDATE accounts SET stripe_customer_id = %s, metered_from = %s WHERE id = %s", [customer, since, account_id]
    )
    return account_id


def boundary(database: psycopg.Connection, account_id: UUID, at: datetime) -> None:
    """A billing period ends and another begins."""
    database.execute(
        "INSERT INTO stripe_boundaries (customer, at, account_id) SELECT stripe_customer_id, %s, id FROM accounts"
        " WHERE id = %s",
        [at, account_id],
    )


def use(database: psycopg.Connection, account_id: UUID, at: datetime, tokens: int) -> None:
    """A receipt; a third of its tokens, and what is left over, are the prompt's."""
    completion = 2 * (tokens // 3)
    database.execute(
        "INSERT INTO usage_records (batch_id, seq, account_id, api_key_id, model, provider, prompt_tokens,"
        " cached_tokens, completion_tokens, created_at)"
        " VALUES (uuidv7(), 0, %s, uuidv7(), 'sim', 'test', %s, 0, %s, %s)",
        [account_id, tokens - completion, completion, at],
    )


def used(database: psycopg.Connection, account_id: UUID) -> int:
    """What its receipts come to."""
    query = "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM usage_records WHERE account_id = %s"
    (found,) = one(database, query, account_id)
    return int(str(found))


def told(database: psycopg.Connection, account_id: UUID) -> list[tuple[datetime, int]]:
    """The portions of its outbox: with which time, and how many tokens."""
    rows = database.execute(
        "SELECT used_at, tokens FROM meter_outbox WHERE account_id = %s ORDER BY hour, portion", [account_id]
    )
    return [(at.astimezone(UTC), tokens) for at, tokens in rows]
