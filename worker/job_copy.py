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
# Five values, each behind its length; the last two lengths vary.
_IDS = struct.Struct(">hi16siii16si")


class JobCopy:
    """Use it in a `with` statement, in the transaction that owns the batch; `add` takes the rows in any order."""

    def __init__(self, connection: Connection, batch_id: UUID, account_id: UUID) -> None:
        driver: PsycopgConnection = connection.connection.driver_connection  # type: ignore[assignment]
        self._cursor: Cursor = driver.cursor()
        self._batch, self._account = batch_id.bytes, account_id.bytes
        self._block = bytearray(_SIGNATURE)

    def __enter__(self) -> Self:
        self._context = self._cursor.copy(
            "COPY jobs (batch_id, seq, account_id, custom_id, body) FROM STDIN (FORMAT binary)"
        )
        self._copy: Copy = self._context.__enter__()
        return self

    def add(self, seq: int, custom_id: str, body: bytes) -> None:
        id_bytes = custom_id.encode()
        self._block += _IDS.pack(5, 16, self._batch, 4, seq, 16, self._account, len(id_bytes))
        self._block += b"%b%b%b" % (id_bytes, _LENGTH.pack(len(body)), body)
        if len(self._block) >= BLOCK_BYTES:
            self._copy.write(bytes(self._block))
            self._block.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._copy.write(bytes(self._block) + _TRAILER)
        self._context.__exit__(kind, error, traceback)
