"""Trials: the suspected claims of a process, a few rows at a time, each written down before its rows run.

What is written down is what counts the death if the process ends; see worker/suspects.py.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from worker import leases, suspects
from worker.claims import Claim

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Trial:
    """A suspected claim. Its rows run from `turn` on; `over` is when the process holds it no longer."""

    claim: Claim
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Trials:
    """Lives on an event loop."""

    def __init__(self) -> None:
        self._waiting: list[Trial] = []
        self._some = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="trials")

    def add(self, claim: Claim) -> Trial:
        """Puts a claim in the line."""
        trial = Trial(claim)
        self._waiting.append(trial)
        self._some.set()
        return trial

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            self._waiting = [trial for trial in self._waiting if not trial.over.is_set()]
            if not self._waiting:
                self._some.clear()
                continue
            group = self._next()
            try:
                begun = await asyncio.to_thread(leases.begin_trial, [trial.claim.key for trial in group])
            except SQLAlchemyError as error:
                log.warning("suspected rows wait for the database", extra={"error": str(error)})
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._waiting = [trial for trial in self._waiting if trial not in group]
            # The others have been lost, which the next renewal of leases finds out.
            tried = [trial for trial in group if trial.claim.key in begun]
            for trial in tried:
                trial.turn.set()
            for trial in tried:
                await trial.over.wait()

    def _next(self) -> Sequence[Trial]:
        """As many as are tried together, of which there is at least one."""
        room = suspects.rows_on_trial(self._waiting[0].claim.deaths)
        group: list[Trial] = []
        for trial in self._waiting:
            rows = len(trial.claim.jobs)
            if group and (rows > room or suspects.rows_on_trial(trial.claim.deaths) == 1):
                break
            group.append(trial)
            room -= rows
        return group
