"""When keys were last used: gathered in the process and written for all at once, so that no request waits for it.

A process that is killed loses at most the last EVERY_SECONDS of it. One that ends by itself writes what it has.
"""

import atexit
import logging
from datetime import UTC, datetime
from threading import Lock, Timer
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from common.database import web_engine
from common.once import Once

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0


class KeyUses:
    """The uses that a process has not written yet: for each key the last. There is a thread only while there are
    some: the first use after a write starts its timer, in whichever process that is, so a fork takes none along."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._moments: dict[UUID, datetime] = {}
        self._timer: Timer | None = None

    def note(self, key_id: UUID) -> None:
        with self._lock:
            self._moments[key_id] = datetime.now(UTC)
            if self._timer is None:
                self._start_timer()

    def close(self) -> None:
        """Writes what was gathered, if that can be, and leaves no thread."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._write()

    def _start_timer(self) -> None:
        self._timer = Timer(EVERY_SECONDS, self._time_is_up)
        # The end of the process does not wait for it: what is left is written then.
        self._timer.daemon = True
        self._timer.start()

    def _time_is_up(self) -> None:
        self._write()
        with self._lock:
            if self._timer is not None:
                self._timer = None
                # Used meanwhile, or not written because the database is away.
                if self._moments:
                    self._start_timer()

    def _write(self) -> None:
        with self._lock:
            moments, self._moments = self._moments, {}
        if not moments:
            return
        key_ids = sorted(moments)
        parameters = {"key_ids": key_ids, "moments": [moments[key_id] for key_id in key_ids]}
        try:
            with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.execute(_NOTE, parameters)
        except SQLAlchemyError as error:
            log.warning("the last use of keys is not written yet", extra={"keys": len(moments), "error": str(error)})
            with self._lock:
                self._moments = moments | self._moments


@Once
def gathered() -> KeyUses:
    """This process's own."""
    uses = KeyUses(web_engine())
    atexit.register(uses.close)
    return uses


_NOTE = text("SELECT note_key_uses(CAST(:key_ids AS uuid[]), CAST(:moments AS timestamptz[]))")
