"""Reading the outcomes of a batch in input order, a page at a time: no transaction stays open while a customer
downloads, however slowly."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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

    body: bytes | None
    custom_id: str
    outcome: str | None
    status_code: int | None
    error_code: str | None
    error_message: str | None
    request_id: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    cost: int | None


# A successful answer, the custom_id, and the other result columns as CSV: see _CSV_ROWS.
CsvRow = tuple[bytes | None, str, str]


def stream(account_id: UUID, batch_id: UUID, total: int) -> Iterator[Row]:
    """Every row of a batch of `total` rows once, in input order."""
    return map(Row._make, _stream(_ROWS, account_id, batch_id, total))


def stream_csv(account_id: UUID, batch_id: UUID, total: int) -> Iterator[CsvRow]:
    """As stream, of what a result CSV shows."""
    return _stream(_CSV_ROWS, account_id, batch_id, total)


def _stream(query: str, account_id: UUID, batch_id: UUID, total: int) -> Iterator[Any]:
    """While one page is used the next is read. The first column is the body, by which pages are measured."""
    if total == 0:
        return
    with ThreadPoolExecutor(1, "results") as reader:
        first, rows = 0, FIRST_PAGE_ROWS
        coming = reader.submit(_page, query, account_id, batch_id, first, rows)
        while True:
            page = coming.result()
            first += rows
            if first >= total:
                break
            # The next page is as many rows as fit, if they are like these: an answer may be a word or a book.
            row_bytes = ROW_BYTES + sum(len(row[0] or b"") for row in page) // max(1, len(page))
            rows = max(1, min(PAGE_ROWS, PAGE_BYTES // row_bytes))
            coming = reader.submit(_page, query, account_id, batch_id, first, rows)
            yield from page
    yield from page


def _page(query: str, account_id: UUID, batch_id: UUID, first: int, rows: int) -> list[tuple[Any, ...]]:
    parameters = {"account_id": account_id, "batch_id": batch_id, "first": first, "end": first + rows}
    with as_account(account_id) as connection:
        return _fetch(connection, query, parameters)


def _fetch(connection: Connection, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Bodies come in binary: as text each byte would be two characters to decode."""
    driver: PsycopgConnection = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor(binary=True) as cursor:
        return cursor.execute(query, parameters).fetchall()


# The range stands at all three tables, so that three indexes are read side by side from where the page begins.
_PAGE = """
    FROM jobs j
    LEFT JOIN results r ON r.batch_id = j.batch_id AND r.seq = j.seq AND r.batch_id = %(batch_id)s
        AND r.seq >= %(first)s AND r.seq < %(end)s
    LEFT JOIN usage_records u ON u.batch_id = j.batch_id AND u.seq = j.seq AND u.batch_id = %(batch_id)s
        AND u.seq >= %(first)s AND u.seq < %(end)s
    WHERE j.account_id = %(account_id)s AND j.batch_id = %(batch_id)s AND j.seq >= %(first)s AND j.seq < %(end)s
    ORDER BY j.seq
"""

_ROWS = f"""
    SELECT r.body, j.custom_id, r.outcome, r.status_code, r.error_code, r.error_message, r.request_id,
        u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.cost
    {_PAGE}
"""

# Written by PostgreSQL, whose process has time while Python writes the page before: status, error, prompt_tokens,
# completion_tokens, cost in dollars. concat() writes NULL as nothing.
_CSV_ROWS = f"""
    SELECT CASE WHEN r.outcome = 'succeeded' THEN r.body END, j.custom_id,
        concat(coalesce(r.outcome, 'pending'), ',', '"' || replace(r.error_message, '"', '""') || '"', ',',
            u.prompt_tokens, ',', u.completion_tokens, ',', trim_scale(u.cost * 0.000000001))
    {_PAGE}
"""
