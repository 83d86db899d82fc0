"""Idempotency keys: a request that comes again under its key was done once, and gets the answer that it had.

The key's row is written in the transaction of all that the request does, first, and with the answer, last: there is no
moment at which one is there without the other, whatever dies. A second request with the key waits at that row.
"""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import OperationalError

from common import json_text
from common.database import as_account
from common.errors import KeyReused, StillRunning
from common.sealing import cipher
from common.settings import settings

KEPT = timedelta(hours=24)
MAX_KEY_CHARACTERS = 255
HEADER = "Idempotency-Key"
# How long a request waits for another one with its key.
WAIT_SECONDS = 5
# What its key for sealing is made of.
_ANSWERS = "idempotency:answers"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with."""

    status: int
    headers: dict[str, str]
    body: bytes


class Answered(Exception):
    """The request was done before, and this was its answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Request:
    """A request under a key. `hash` is of all that it says: two of one hash ask for the same."""

    account_id: UUID
    key: str
    hash: bytes

    @property
    def _kept_hash(self) -> bytes:
        """Under SECRET_KEY, like the answer: after another SECRET_KEY no old answer is taken for this request's."""
        return hmac.digest(_pepper(), b"idempotency:requests:" + self.hash, "sha256")

    def find(self) -> Answer | None:
        """What it was answered with, if it came before. Raises KeyReused where another came under its key."""
        with as_account(self.account_id) as connection:
            row = connection.execute(_FIND, self._names()).one_or_none()
        return None if row is None else self._answer(row)

    def claim(self, connection: Connection) -> None:
        """The first statement of the transaction: from here on its key is this request's, unless it is rolled back.
        Raises Answered, and KeyReused and StillRunning."""
        try:
            connection.execute(_WAIT_SHORTLY, {"timeout": f"{WAIT_SECONDS}s"})
            claimed = connection.execute(_CLAIM, self._names() | {"hash": self._kept_hash}).rowcount
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                self._refuse_running()
            raise
        if not claimed:
            raise Answered(self._answer(connection.execute(_FIND, self._names()).one()))
        # The bound is for the key alone.
        connection.execute(_WAIT_AS_EVER)

    def store(self, answer: Answer) -> None:
        """The last statement of the transaction."""
        values = {
            "status": answer.status,
            "headers": json_text.dumps(answer.headers).decode(),
            # A new API key is shown in the answer that makes it, and is nowhere else in the database.
            "response": cipher(_ANSWERS).encrypt(answer.body),
        }
        with as_account(self.account_id) as connection:
            connection.execute(_STORE, self._names() | values)

    def _names(self) -> dict[str, object]:
        return {"account_id": self.account_id, "key": self.key, "kept": KEPT}

    def _answer(self, row: Row[tuple[bytes, int, dict[str, str], bytes]]) -> Answer:
        if row.request_hash != self._kept_hash:
            raise KeyReused(
                f"This {HEADER} came with another request, to another address or with another body, less than "
                f"{KEPT.total_seconds() / 3600:g} hours ago: send that request again as it was, or take a new key.",
                param=HEADER,
                code="idempotency_key_reused",
            )
        return Answer(row.status_code, row.headers, cipher(_ANSWERS).decrypt(row.response))

    def _refuse_running(self) -> NoReturn:
        raise StillRunning(
            f"A request with this {HEADER} is being served: send yours again in a moment, for its answer.",
            param=HEADER,
            code="idempotency_in_progress",
        ) from None


def _pepper() -> bytes:
    return settings().secret_key.get_secret_value().encode()


_FIND = text("""
    SELECT request_hash, status_code, headers, response FROM idempotency_keys
    WHERE account_id = :account_id AND key = :key AND created_at > now() - CAST(:kept AS interval)
""")

_WAIT_SHORTLY = text("SELECT set_config('lock_timeout', :timeout, true)")

_WAIT_AS_EVER = text("SET LOCAL lock_timeout TO DEFAULT")

# A row that is too old is as good as none. One that is not is locked all the same, so that it is there to be read.
_CLAIM = text("""
    INSERT INTO idempotency_keys AS held (account_id, key, request_hash) VALUES (:account_id, :key, :hash)
    ON CONFLICT (account_id, key) DO UPDATE SET request_hash = excluded.request_hash, status_code = NULL,
        headers = NULL, response = NULL, created_at = excluded.created_at
    WHERE held.created_at <= now() - CAST(:kept AS interval)
""")

_STORE = text("""
    UPDATE idempotency_keys
    SET status_code = :status, headers = CAST(:headers AS jsonb), response = :response
    WHERE account_id = :account_id AND key = :key
""")
