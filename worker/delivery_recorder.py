"""Collecting attempts into groups, and writing one group at a time: what has gathered while the one before was written,
and at once, since what a killed process has not recorded is sent again."""

import asyncio
import logging
from concurrent.futures import Executor

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from worker.delivery_records import record
from worker.sender import Attempt

log = logging.getLogger(__name__)

MAX_GROUP_ATTEMPTS = 100
MAX_PAUSE_SECONDS = 5.0


class DeliveryRecorder:
    """For one event loop; `threads` is where it writes."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._gathered: list[tuple[Attempt, asyncio.Future[None]]] = []
        self._writing = False

    async def add(self, attempt: Attempt) -> None:
        """Returns when it is recorded, which goes on where nobody waits for it any more."""
        recorded = asyncio.get_running_loop().create_future()
        self._gathered.append((attempt, recorded))
        if not self._writing:
            self._writing = True
            self._task = asyncio.create_task(self._write_all(), name="delivery recorder")
        await recorded

    async def finish(self) -> None:
        """Returns when all that was added is written."""
        if self._writing:
            await self._task

    async def _write_all(self) -> None:
        while self._gathered:
            group = self._gathered[:MAX_GROUP_ATTEMPTS]
            del self._gathered[: len(group)]
            await self._write([attempt for attempt, _ in group])
            for _, recorded in group:
                if not recorded.done():
                    recorded.set_result(None)
        self._writing = False

    async def _write(self, group: list[Attempt]) -> None:
        """Waits out a database that is away: what came of these attempts is known here alone."""
        pause = 0.1
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, record, group)
                return
            except (DataError, IntegrityError):
                # It would be refused again. Their leases end, and the deliveries are attempted anew.
                log.exception("attempts cannot be stored", extra={"attempts": len(group)})
                return
            except SQLAlchemyError as error:
                log.warning("attempts wait for the database", extra={"attempts": len(group), "error": str(error)})
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE_SECONDS, pause * 2)
