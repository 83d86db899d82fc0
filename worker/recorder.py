"""Collecting outcomes into groups, and writing one group at a time.

While a group is written the next one gathers. A group waits a moment for company, unless a caller may be waiting for
one of its outcomes or no other outcome is on its way.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from worker.outcomes import Outcome, record
from worker.vital_tasks import end_process_if_failed

log = logging.getLogger(__name__)

LINGER_SECONDS = 0.1
GROUP_OUTCOMES = 100
MAX_GROUP_OUTCOMES = 500
MAX_PAUSE_SECONDS = 5.0
UNRECORDABLE = "unrecordable_answer"


class Recorder:
    """`more_coming` tells whether any job still runs; `on_recorded` is called with each group after its commit."""

    def __init__(self, more_coming: Callable[[], bool], on_recorded: Callable[[Sequence[Outcome]], None]) -> None:
        self._more_coming = more_coming
        self._on_recorded = on_recorded
        self._gathered: list[Outcome] = []
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="recorder")
        # Without its recorder a process would hold its claims for ever.
        self._task.add_done_callback(end_process_if_failed)

    def add(self, outcome: Outcome) -> None:
        self._gathered.append(outcome)
        self._some.set()
        if outcome.claim.single or len(self._gathered) >= GROUP_OUTCOMES or not self._more_coming():
            self._enough.set()

    async def finish(self) -> None:
        """Writes all that was added, then stops."""
        self._enough.set()
        while self._gathered:
            # Between two looks, at the end of the process alone: an event would be one more thing to keep right.
            await asyncio.sleep(0.01)
        self._some.set()
        await self._task

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if not self._gathered:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._enough.wait()
            group = self._gathered[:MAX_GROUP_OUTCOMES]
            await self._write(group)
            del self._gathered[: len(group)]
            if not self._gathered:
                self._some.clear()
            if len(self._gathered) < GROUP_OUTCOMES and not any(outcome.claim.single for outcome in self._gathered):
                self._enough.clear()

    async def _write(self, group: list[Outcome]) -> None:
        """Writes a group, waiting out a database that is away: these outcomes are paid for and exist nowhere else."""
        pause = 0.1
        while True:
            try:
                await asyncio.to_thread(self._record, group)
                return
            except (DataError, IntegrityError, ValueError):
                # One answer that PostgreSQL will not store must not hold up the others, nor be tried for ever.
                log.exception("a group holds an outcome that cannot be stored", extra={"outcomes": len(group)})
                if len(group) > 1:
                    for outcome in group:
                        await self._write([outcome])
                    return
                if group[0].error_code == UNRECORDABLE:
                    # Not even the failure can be stored: that is the operator's to mend, and trying on keeps the claim.
                    await asyncio.sleep(MAX_PAUSE_SECONDS)
                group = [_unrecordable(group[0])]
            except SQLAlchemyError as error:
                log.warning("outcomes wait for the database", extra={"outcomes": len(group), "error": str(error)})
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE_SECONDS, pause * 2)

    def _record(self, group: Sequence[Outcome]) -> None:
        record(group)
        self._on_recorded(group)


def _unrecordable(outcome: Outcome) -> Outcome:
    return replace(
        outcome,
        kind="failed",
        status_code=None,
        body=None,
        error_code=UNRECORDABLE,
        error_message="The provider's answer could not be stored.",
        request_id=None,
    )
