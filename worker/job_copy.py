"""Writing a batch's jobs with COPY in PostgreSQL's binary format.

Rows are packed here rather than by psycopg, which adapts each value of each row: a job is two constant ids, a number
and two byte strings, and packing those directly more than doubles the rows a second.
"""

import struct
from types import TracebackType
from typing import Self
from uuid import UUID

from psycopg import Connection as PsycopgConnection
from psycopg import Copy, Cursor
from sqlalchemy import Connection

BLOCK_BYTES = 256 * 1024
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_LENGTH = struct.Struct(">i")
# A row is seven values, each behind its length. All before the custom_id has the same layout in every row.
_HEAD = struct.Struct(">22sii20siiiqi")


class JobCopy:
    """Use it in a `with` statement, in the transaction that owns the batch; `add` takes the rows in any order."""

    def __init__(self, connection: Connection, batch_id: UUID, account_id: UUID) -> None:
        # SQLAlchemy does not say which driver's connection it gives.
        driver: PsycopgConnection = connection.connection.driver_connection  # type: ignore[assignment]
        self._cursor: Cursor = driver.cursor()
        self._batch = struct.pack(">hi16s", 7, 16, batch_id.bytes)
        self._account = struct.pack(">i16s", 16, account_id.bytes)
        self._block = bytearray(_SIGNATURE)

    def __enter__(self) -> Self:
        self._context = self._cursor.copy(
            "COPY jobs (batch_id, seq, account_id, tokens, cost, custom_id, body) FROM STDIN (FORMAT binary)"
        )
        self._copy: Copy = self._context.__enter__()
        return self

    def add(self, seq: int, custom_id: str, body: bytes, tokens: int, cost: int) -> None:
        id_bytes = custom_id.encode()
        block = self._block
        block += _HEAD.pack(self._batch, 4, seq, self._account, 4, tokens, 8, cost, len(id_bytes))
        block += id_bytes
        block += _LENGTH.pack(len(body))
        block += body
        if len(block) >= BLOCK_BYTES:
            self._copy.write(bytes(block))
            block.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._copy.write(bytes(self._block) + _TRAILER)
        self._context.__exit__(kind, error, traceback)
