"""Reading the outcomes of a batch in input order, a page at a time: no transaction stays open while a customer
downloads, however slowly."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection as PsycopgConnection
from sqlalchemy import Connection

from common.database import as_account

PAGE_ROWS = 2_000
FIRST_PAGE_ROWS = 100
PAGE_BYTES = 8 * 2**20
ROW_BYTES = 500


class Row(NamedTuple):
    """A job of a batch with its outcome, None while it has none. `cost` is in nano-dollars."""

    seq: int
    custom_id: str
    outcome: str | None
    status_code: int | None
    body: bytes | None
    error_code: str | None
    error_message: str | None
    request_id: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    cost: int | None


def stream(account_id: UUID, batch_id: UUID, total: int) -> Iterator[Row]:
    """Every row of a batch of `total` rows once, in input order."""
    first, rows = 0, FIRST_PAGE_ROWS
    while first < total:
        parameters = {"account_id": account_id, "batch_id": batch_id, "first": first, "end": first + rows}
        with as_account(account_id) as connection:
            page = _fetch(connection, parameters)
        yield from page
        first += rows
        # The next page is as many rows as fit, if they are like these: an answer may be a word or a book.
        row_bytes = ROW_BYTES + sum(len(row.body or b"") for row in page) // max(1, len(page))
        rows = max(1, min(PAGE_ROWS, PAGE_BYTES // row_bytes))


def _fetch(connection: Connection, parameters: dict[str, Any]) -> list[Row]:
    """One page. Bodies come in binary: as text each byte would be two characters to decode."""
    driver: PsycopgConnection = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor(binary=True) as cursor:
        return list(map(Row._make, cursor.execute(_PAGE, parameters)))


# The range stands at all three tables, so that three indexes are read side by side from where the page begins.
_PAGE = """
    SELECT j.seq, j.custom_id, r.outcome, r.status_code, r.body, r.error_code, r.error_message, r.request_id,
        u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.cost
    FROM jobs j
    LEFT JOIN results r ON r.batch_id = j.batch_id AND r.seq = j.seq AND r.batch_id = %(batch_id)s
        AND r.seq >= %(first)s AND r.seq < %(end)s
    LEFT JOIN usage_records u ON u.batch_id = j.batch_id AND u.seq = j.seq AND u.batch_id = %(batch_id)s
        AND u.seq >= %(first)s AND u.seq < %(end)s
    WHERE j.account_id = %(account_id)s AND j.batch_id = %(batch_id)s AND j.seq >= %(first)s AND j.seq < %(end)s
    ORDER BY j.seq
"""
