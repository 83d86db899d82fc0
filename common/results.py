"""Reading the outcomes of a batch in input order, a page at a time: no transaction stays open while a customer
downloads, however slowly."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from common.database import as_account

PAGE_ROWS = 2_000
FIRST_PAGE_ROWS = 100
PAGE_BYTES = 8 * 2**20
ROW_BYTES = 500


@dataclass(frozen=True, slots=True)
class Row:
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
            page = connection.exec_driver_sql(_PAGE, parameters).all()
        for row in page:
            yield Row(*row)
        first += rows
        # The next page is as many rows as fit, if they are like these: an answer may be a word or a book.
        row_bytes = ROW_BYTES + sum(len(row.body or b"") for row in page) // max(1, len(page))
        rows = max(1, min(PAGE_ROWS, PAGE_BYTES // row_bytes))


_PAGE = """
    SELECT j.seq, j.custom_id, r.outcome, r.status_code, r.body, r.error_code, r.error_message, r.request_id,
        u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.cost
    FROM jobs j
    LEFT JOIN results r ON r.batch_id = j.batch_id AND r.seq = j.seq AND r.batch_id = %(batch_id)s
    LEFT JOIN usage_records u ON u.batch_id = j.batch_id AND u.seq = j.seq AND u.batch_id = %(batch_id)s
    WHERE j.account_id = %(account_id)s AND j.batch_id = %(batch_id)s AND j.seq >= %(first)s AND j.seq < %(end)s
    ORDER BY j.seq
"""
