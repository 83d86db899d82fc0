"""Reading the outcomes of a batch in input order, a page at a time: no transaction stays open while a customer
downloads, however slowly."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection as PsycopgConnection
from sqlalchemy import Connection, text

from common.database import as_account
from common.errors import InvalidRequest, NotFound
from common.files import Shows

_ROW_ID = re.compile(r"batch_req_([0-9a-f]{32})_([0-9]{1,9})")

# Of a result `r`: whether its row may succeed next time. What ingest failed never will. What has its receipt without an
# answer that could be stored stays: a row has one receipt.
MAY_RUN_AGAIN = """(r.outcome IN ('cancelled', 'expired') OR r.outcome = 'failed' AND r.attempts > 0
    AND NOT EXISTS (SELECT 1 FROM usage_records u WHERE u.batch_id = r.batch_id AND u.seq = r.seq))"""

PAGE_ROWS = 2_000
FIRST_PAGE_ROWS = 100
SPARSE_PAGE_ROWS = 50_000
PAGE_BYTES = 8 * 2**20
ROW_BYTES = 500


class Row(NamedTuple):
    """A job of a batch with its outcome, None while it has none, and its receipt, None where nothing was used: prices
    are nano-dollars for a million tokens, `cost` nano-dollars."""

    body: bytes | None
    seq: int
    custom_id: str
    outcome: str | None
    status_code: int | None
    error_code: str | None
    error_message: str | None
    request_id: str | None
    model: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    prompt_price: int | None
    cached_price: int | None
    completion_price: int | None
    cost: int | None
    recorded_at: datetime | None


# A successful answer, the custom_id, and the other result columns as CSV: see _CSV_ROWS.
CsvRow = tuple[bytes | None, str, str]


class LineRow(NamedTuple):
    """What a line of an output or error file shows; see output_lines."""

    body: bytes | None
    seq: int
    custom_id: str
    status_code: int | None
    request_id: str | None
    error_code: str | None
    error_message: str | None


def stream(account_id: UUID, batch_id: UUID, total: int) -> Iterator[Row]:
    """Every row of a batch of `total` rows once, in input order."""
    parameters = {"account_id": account_id, "batch_id": batch_id}
    return map(Row._make, _stream(_ROWS, parameters, 0, total, PAGE_ROWS))


def stream_csv(account_id: UUID, batch_id: UUID, total: int) -> Iterator[CsvRow]:
    """As stream, of what a result CSV shows."""
    return _stream(_CSV_ROWS, {"account_id": account_id, "batch_id": batch_id}, 0, total, PAGE_ROWS)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The finished beginning of a batch: every row below `end` has its outcome. Of those, `lines` are in the file, and
    the one at the offset that was asked for, if there is one, is of row `first`."""

    end: int
    lines: int
    first: int


def beginning(account_id: UUID, batch_id: UUID, shows: Shows, offset: int) -> Beginning:
    """How far the file of a batch that runs can be read in input order, and where to start."""
    parameters = {"account_id": account_id, "batch_id": batch_id, "offset": offset, "succeeded": shows == "outputs"}
    with as_account(account_id) as connection:
        found = connection.execute(_BEGINNING, parameters).one()
    return Beginning(found.end_seq, found.lines, found.end_seq if found.first_seq is None else found.first_seq)


def stream_lines(account_id: UUID, batch_id: UUID, shows: Shows, first: int, end: int) -> Iterator[LineRow]:
    """The rows from `first` to before `end` that a batch's output or error file shows, in input order."""
    parameters = {"account_id": account_id, "batch_id": batch_id, "succeeded": shows == "outputs"}
    # Errors are few: more rows are looked through at a time.
    page_rows = PAGE_ROWS if shows == "outputs" else SPARSE_PAGE_ROWS
    return map(LineRow._make, _stream(_LINES, parameters, first, end, page_rows))


def _stream(query: str, parameters: dict[str, Any], first: int, end: int, max_rows: int) -> Iterator[Any]:
    """While one page is used the next is read. The first column is the body, by which pages are measured."""
    if first >= end:
        return
    with ThreadPoolExecutor(1, "results") as reader:
        rows = FIRST_PAGE_ROWS
        coming = reader.submit(_page, query, parameters, first, min(end, first + rows))
        while True:
            page = coming.result()
            first += rows
            if first >= end:
                break
            # The next page is as many rows as fit, if they are like these: an answer may be a word or a book.
            row_bytes = ROW_BYTES + sum(len(row[0] or b"") for row in page) // max(1, len(page))
            rows = max(1, min(max_rows, PAGE_BYTES // row_bytes))
            coming = reader.submit(_page, query, parameters, first, min(end, first + rows))
            yield from page
    yield from page


def _page(query: str, parameters: dict[str, Any], first: int, end: int) -> list[tuple[Any, ...]]:
    with as_account(parameters["account_id"]) as connection:
        return _fetch(connection, query, parameters | {"first": first, "end": end})


def _fetch(connection: Connection, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Bodies come in binary: as text each byte would be two characters to decode."""
    # SQLAlchemy does not say which driver's connection it gives.
    driver: PsycopgConnection = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor(binary=True) as cursor:
        return cursor.execute(query, parameters).fetchall()


def row_id(batch_id: UUID, seq: int) -> str:
    """What names a row in the output file and in lists."""
    return f"batch_req_{batch_id.hex}_{seq}"


def parse_row_id(batch_id: UUID, shown: str) -> int:
    """The number of a row of this batch. Raises InvalidRequest for what names none, and NotFound for another's."""
    found = _ROW_ID.fullmatch(shown)
    if found is None:
        raise InvalidRequest("after is the id of the last row of the page before.", param="after")
    if found[1] != batch_id.hex:
        raise NotFound("after names a row of another batch: take it from a page of this one.", param="after")
    return int(found[2])


def list_page(
    account_id: UUID, batch_id: UUID, custom_id: str | None, status: str | None, after: int, limit: int
) -> Sequence[Row]:
    """Up to `limit` rows in input order, those behind row `after`, of one custom_id or one status where wanted."""
    parameters = {
        "account_id": account_id,
        "batch_id": batch_id,
        "custom_id": custom_id,
        "status": status,
        "after": after,
        "limit": limit,
    }
    with as_account(account_id) as connection:
        return [Row._make(row) for row in connection.execute(_LIST, parameters)]


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

_ROW = """
    SELECT r.body, j.seq, j.custom_id, r.outcome, r.status_code, r.error_code, r.error_message, r.request_id,
        u.model, u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.prompt_price, u.cached_price,
        u.completion_price, u.cost, u.created_at AS recorded_at
"""

_ROWS = f"{_ROW} {_PAGE}"

_LIST = text(f"""
    {_ROW} FROM jobs j
    LEFT JOIN results r ON r.batch_id = j.batch_id AND r.seq = j.seq
    LEFT JOIN usage_records u ON u.batch_id = j.batch_id AND u.seq = j.seq
    WHERE j.account_id = :account_id AND j.batch_id = :batch_id AND j.seq > :after
        AND (CAST(:custom_id AS text) IS NULL OR j.custom_id = :custom_id)
        AND (CAST(:status AS text) IS NULL OR coalesce(r.outcome, 'pending') = :status)
    ORDER BY j.seq LIMIT :limit
""")

_LINES = """
    SELECT r.body, r.seq, j.custom_id, r.status_code, r.request_id, r.error_code, r.error_message
    FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.seq = r.seq AND j.batch_id = %(batch_id)s
        AND j.seq >= %(first)s AND j.seq < %(end)s
    WHERE r.account_id = %(account_id)s AND r.batch_id = %(batch_id)s AND r.seq >= %(first)s AND r.seq < %(end)s
        AND (r.outcome = 'succeeded') = %(succeeded)s
    ORDER BY r.seq
"""

_BEGINNING = text("""
    WITH shown AS (
        SELECT r.seq FROM results r, (SELECT finished_beginning(:batch_id) AS end_seq) AS found
        WHERE r.account_id = :account_id AND r.batch_id = :batch_id AND r.seq < found.end_seq
            AND (r.outcome = 'succeeded') = :succeeded
    )
    SELECT finished_beginning(:batch_id) AS end_seq, (SELECT count(*) FROM shown) AS lines,
        (SELECT seq FROM shown ORDER BY seq OFFSET :offset LIMIT 1) AS first_seq
""")

# Written by PostgreSQL, whose process has time while Python writes the page before: status, error, prompt_tokens,
# completion_tokens, cost in dollars. concat() writes NULL as nothing.
_CSV_ROWS = f"""
    SELECT CASE WHEN r.outcome = 'succeeded' THEN r.body END, j.custom_id,
        concat(coalesce(r.outcome, 'pending'), ',', '"' || replace(r.error_message, '"', '""') || '"', ',',
            u.prompt_tokens, ',', u.completion_tokens, ',', trim_scale(u.cost * 0.000000001))
    {_PAGE}
"""
