"""Files: inputs that customers upload, and the outputs and errors of their batches."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO, Literal
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids, storage
from common.database import as_account
from common.errors import NotFound, TooLarge
from common.keys import Caller

Shows = Literal["outputs", "errors"]


@dataclass(frozen=True, slots=True)
class File:
    """A file of an account. It is stored under `storage_key`, or `shows` rows of the batch `batch_id`; then `bytes` is
    what it has by now."""

    id: UUID
    purpose: str
    filename: str
    bytes: int
    created_at: datetime
    expires_at: datetime | None
    storage_key: str | None
    shows: Shows | None
    batch_id: UUID | None

    @property
    def shown_id(self) -> str:
        return ids.show("file-", self.id)


@dataclass(frozen=True, slots=True)
class Stored:
    """Content in storage that no row names yet."""

    key: str
    bytes: int


@contextmanager
def store(caller: Caller, content: BinaryIO) -> Iterator[Stored]:
    """Puts content into storage, where it stays if the row that names it is written meanwhile. Raises TooLarge when the
    caller's plan does not take so much in one file."""
    size = content.seek(0, 2)
    limit = caller.limits.max_file_bytes
    if size > limit:
        message = f"The file has {size:,} bytes; the plan {caller.plan} takes {limit:,} in a file: split it."
        raise TooLarge(message, param="file", code="file_too_large")
    key = f"inputs/{uuid.uuid4().hex}"
    storage.put(key, content)
    try:
        yield Stored(key, size)
    except BaseException:
        # Whatever it was, no row names the content.
        storage.delete(key)
        raise


def create(caller: Caller, filename: str, content: BinaryIO, expires_after: timedelta | None) -> File:
    """Stores an input file. Raises TooLarge."""
    with store(caller, content) as stored, as_account(caller.account_id) as connection:
        file_id = insert(connection, caller, filename, stored, expires_after)
        return _get(connection, caller.account_id, file_id)


def insert(
    connection: Connection, caller: Caller, filename: str, stored: Stored, expires_after: timedelta | None = None
) -> UUID:
    """The row of a stored input, in the transaction of whoever needs it."""
    file_id = ids.new_id()
    parameters = {
        "id": file_id,
        "account_id": caller.account_id,
        "filename": filename,
        "bytes": stored.bytes,
        "storage_key": stored.key,
        "seconds": (expires_after or caller.limits.retention).total_seconds(),
    }
    connection.execute(_INSERT, parameters)
    return file_id


def add_results(connection: Connection, account_id: UUID, batch_id: UUID) -> tuple[UUID, UUID]:
    """The files that show a batch's outputs and its errors, in the transaction that begins it; returns their ids."""
    file_ids: dict[Shows, UUID] = {"outputs": ids.new_id(), "errors": ids.new_id()}
    shown_id = ids.show("batch_", batch_id)
    for shows, file_id in file_ids.items():
        filename = f"{shown_id}_{shows.removesuffix('s')}.jsonl"
        parameters = {"id": file_id, "account_id": account_id, "filename": filename, "batch_id": batch_id}
        connection.execute(_INSERT_RESULTS, parameters | {"shows": shows})
    return file_ids["outputs"], file_ids["errors"]


def get(account_id: UUID, file_id: str, param: str = "file_id") -> File:
    """The file of this account, which the request names in `param`. Raises NotFound, for another account's file, a
    deleted and an expired one too."""
    with as_account(account_id) as connection:
        return _get(connection, account_id, ids.parse("file-", file_id), file_id, param)


def _get(
    connection: Connection, account_id: UUID, file_id: UUID | None, shown: str = "", param: str = "file_id"
) -> File:
    row = connection.execute(_GET, {"account_id": account_id, "file_id": file_id}).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no file {shown[:200]!r}: it was never there, was deleted, or has expired.", param=param
        )
    return File(**row._mapping)


def list_page(
    account_id: UUID, after: str | None, limit: int, newest_first: bool, purpose: str | None
) -> Sequence[File]:
    """Up to `limit` files in the order of their creation, those behind the file `after`."""
    parameters = {
        "account_id": account_id,
        "after": ids.parse_after("file-", after),
        "limit": limit,
        "purpose": purpose,
    }
    with as_account(account_id) as connection:
        rows = connection.execute(_LIST_NEWEST if newest_first else _LIST_OLDEST, parameters)
        return [File(**row._mapping) for row in rows]


def delete(account_id: UUID, file_id: str) -> None:
    """The file is gone at once for its customer; retention deletes what is stored, once no ingest needs it any more.
    Raises NotFound."""
    file = get(account_id, file_id)
    with as_account(account_id) as connection:
        connection.execute(_DELETE, {"account_id": account_id, "file_id": file.id})


_INSERT = text("""
    INSERT INTO files (id, account_id, purpose, filename, bytes, storage_key, expires_at)
    VALUES (:id, :account_id, 'batch', :filename, :bytes, :storage_key, now() + make_interval(secs => :seconds))
""")

_INSERT_RESULTS = text("""
    INSERT INTO files (id, account_id, purpose, filename, bytes, batch_id, shows)
    VALUES (:id, :account_id, 'batch_output', :filename, 0, :batch_id, :shows)
""")

# A batch without errors shows no error file, one that ended without outputs no output file, and one whose results were
# purged neither. To clients its files are made when it ends: from then on is counted how long they are kept.
_SELECT = """
    SELECT f.id, f.purpose, f.filename, coalesce(b.ended_at, f.created_at) AS created_at, f.storage_key, f.shows,
        f.batch_id,
        CASE f.shows WHEN 'outputs' THEN b.output_bytes WHEN 'errors' THEN b.error_bytes ELSE f.bytes END AS bytes,
        coalesce(f.expires_at, b.results_expire_at) AS expires_at
    FROM files f LEFT JOIN batches b ON b.id = f.batch_id
    WHERE f.account_id = :account_id AND f.deleted_at IS NULL
        AND (f.shows IS NULL OR f.shows = 'errors' AND b.error_bytes > 0
            OR f.shows = 'outputs' AND (b.output_bytes > 0 OR b.ended_at IS NULL))
        AND coalesce(f.expires_at, b.results_expire_at, 'infinity') > clock_timestamp()
"""

_GET = text(f"{_SELECT} AND f.id = :file_id")

_LIST = f"{_SELECT} AND (CAST(:purpose AS text) IS NULL OR f.purpose = :purpose)"
_AFTER = "(CAST(:after AS uuid) IS NULL OR f.id {} CAST(:after AS uuid))"
_LIST_NEWEST = text(f"{_LIST} AND {_AFTER.format('<')} ORDER BY f.id DESC LIMIT :limit")
_LIST_OLDEST = text(f"{_LIST} AND {_AFTER.format('>')} ORDER BY f.id LIMIT :limit")

_DELETE = text("""
    UPDATE files SET deleted_at = clock_timestamp()
    WHERE id = :file_id AND account_id = :account_id AND deleted_at IS NULL
""")
