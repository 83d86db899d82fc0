"""Generation: the claimed jobs of this process, running on one event loop in a thread of its own.

Jobs are claimed a little ahead of the calls in flight, so that a finished call is followed by the next at once. A row
counts against the room until its outcome is recorded: when PostgreSQL is slow or away, claiming stops and memory stays
bounded.
"""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import uvloop
from sqlalchemy.exc import SQLAlchemyError

from worker import leases, suspects
from worker.calls import Caller, Progress
from worker.claims import Claim, ClaimedJob, ClaimKey
from worker.endings import Stopped
from worker.outcomes import Outcome
from worker.recorder import Recorder
from worker.trials import Trial, Trials

log = logging.getLogger(__name__)

MIN_UNRECORDED_ROWS = 32


_Task = asyncio.Task[Outcome | None]


@dataclass(slots=True)
class _Held:
    """A claim of this process, its jobs still running, and how many have no recorded outcome."""

    claim: Claim
    unrecorded: int
    stopped: Stopped | None = None
    lost: bool = False
    # Jobs that will not be called here: they go back with the claim, once the others are recorded.
    put_back: int = 0
    running: dict[_Task, Progress] = field(default_factory=dict)
    trial: Trial | None = None


class Generator:
    """Runs claims of `claim_rows` with at most `concurrency` calls in flight, and a few more of single jobs; `process`
    is its name. `on_recorded` hears of outcomes after their commit, and `on_returned` of plans whose work was given
    back. Public methods may be called from any thread."""

    def __init__(
        self,
        concurrency: int,
        process: str,
        claim_rows: int,
        on_recorded: Callable[[Sequence[Outcome]], None],
        on_returned: Callable[[Collection[str]], None],
    ) -> None:
        self._concurrency = concurrency
        self._claim_rows = claim_rows
        self._process = process
        # Ahead of the calls: the next claim, and the rows whose outcomes wait for their group to be recorded.
        self._max_claimed = concurrency + claim_rows + max(MIN_UNRECORDED_ROWS, concurrency // 2)
        self._on_recorded = on_recorded
        self._on_returned = on_returned
        self._claimed = 0
        self._unfinished = 0
        self._draining = False
        self._room = threading.Condition()
        self._held: dict[ClaimKey, _Held] = {}
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="generator", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._prepare(), self._loop).result()

    async def _prepare(self) -> None:
        self._caller = Caller(self._concurrency, self._process)
        self._recorder = Recorder(lambda: self._unfinished > 0, self._settle)
        self._trials = Trials()

    def room(self) -> int:
        """Rows that may be claimed now."""
        return self._max_claimed - self._claimed

    def is_full(self) -> bool:
        """Whether rows wait here for their calls, as far as they can be counted without asking the loop."""
        return self._claimed >= self._concurrency

    def singles(self) -> int:
        """Single jobs that are held now."""
        with self._room:
            return sum(held.unrecorded for held in self._held.values() if held.claim.single)

    def wait_for_room(self, rows: int, seconds: float) -> bool:
        """Waits until `rows` more may be claimed; False when they may not within the time."""
        with self._room:
            return self._room.wait_for(lambda: self.room() >= rows, seconds)

    def congested(self) -> set[str]:
        """The models of which a claim's worth of jobs waits here for their provider."""
        return self._caller.routes.congested(self._claim_rows)

    def start(self, taken: Sequence[Claim]) -> int:
        """Begins to run claims. Returns how many rows they have."""
        rows = sum(len(claim.jobs) for claim in taken)
        with self._room:
            self._claimed += rows
            self._held |= {claim.key: _Held(claim, len(claim.jobs)) for claim in taken}
        self._loop.call_soon_threadsafe(self._start, taken)
        return rows

    def _start(self, taken: Sequence[Claim]) -> None:
        for claim in taken:
            held = self._held[claim.key]
            if suspects.is_to_blame(claim):
                self._blame(claim)
                continue
            if suspects.is_suspect(claim):
                held.trial = self._trials.add(claim)
            for job in claim.jobs:
                progress = Progress()
                task = self._loop.create_task(self._run(held, job, progress))
                held.running[task] = progress
                task.add_done_callback(partial(self._ended, held, job))
                self._unfinished += 1

    async def _run(self, held: _Held, job: ClaimedJob, progress: Progress) -> Outcome | None:
        if held.trial is not None:
            await held.trial.turn.wait()
        return await self._caller.run(held.claim, job, progress)

    def _blame(self, claim: Claim) -> None:
        """Its row has ended every process that ran it: it fails, and is not run."""
        (job,) = claim.jobs
        log.error("a row fails for ending its workers", extra={"batch": claim.batch_id, "seq": job.seq})
        self._recorder.add(self._caller.crashed(claim, job))

    def _ended(self, held: _Held, job: ClaimedJob, task: _Task) -> None:
        outcome = self._outcome(held, job, held.running.pop(task), task)
        self._unfinished -= 1
        if held.lost:
            return
        if outcome is not None:
            self._recorder.add(outcome)
            return
        held.put_back += 1
        if self._may_return(held):
            self._loop.run_in_executor(None, self._return, [held])

    def _outcome(self, held: _Held, job: ClaimedJob, progress: Progress, task: _Task) -> Outcome | None:
        if task.cancelled():
            return self._caller.stopped(held.claim, job, progress, held.stopped) if held.stopped else None
        if (error := task.exception()) is not None:
            # Whatever it is, this job must end with a result, and the others must go on.
            log.error(
                "a job could not be handled", exc_info=error, extra={"batch": held.claim.batch_id, "seq": job.seq}
            )
            return self._caller.broken(held.claim, job, progress)
        return task.result()

    def _settle(self, group: Sequence[Outcome]) -> None:
        """A group is recorded: its rows make room."""
        returning: list[_Held] = []
        with self._room:
            for key, rows in Counter(outcome.claim.key for outcome in group).items():
                held = self._held.get(key)
                if held is not None:
                    self._claimed -= rows
                    held.unrecorded -= rows
                    if held.unrecorded == 0:
                        self._let_go(key)
                    elif self._may_return(held):
                        returning.append(held)
            self._room.notify_all()
        self._on_recorded(group)
        if returning:
            self._return(returning)

    def _let_go(self, key: ClaimKey) -> _Held | None:
        """Whoever calls it holds `_room`. None when another thread was first."""
        held = self._held.pop(key, None)
        if held is not None and held.trial is not None:
            self._loop.call_soon_threadsafe(held.trial.over.set)
        return held

    def held(self) -> set[ClaimKey]:
        """The claims this process runs."""
        with self._room:
            return set(self._held)

    def stop(self, keys: Mapping[ClaimKey, Stopped]) -> None:
        """Stops the jobs of these claims at once, calls in flight too; each ends as its batch does."""
        self._loop.call_soon_threadsafe(self._stop_jobs, keys)

    def put_back(self, keys: Collection[ClaimKey]) -> None:
        """Starts nothing more of these claims: jobs not called are given back once the calls in flight are recorded."""
        self._loop.call_soon_threadsafe(self._put_back, keys)

    def _put_back(self, keys: Collection[ClaimKey]) -> None:
        for key in keys:
            if (held := self._held.get(key)) is not None:
                self._cancel_uncalled(held)

    def _cancel_uncalled(self, held: _Held) -> None:
        for task, progress in list(held.running.items()):
            if not progress.calling:
                task.cancel()

    def _may_return(self, held: _Held) -> bool:
        return not self._draining and not held.running and held.unrecorded == held.put_back > 0

    def _return(self, returning: Sequence[_Held]) -> None:
        """Gives back what is left of these claims, unless another thread has. It waits for the database, so it is
        called in any thread but the loop's."""
        with self._room:
            ours = [held for held in returning if self._let_go(held.claim.key) is not None]
            self._claimed -= sum(held.unrecorded for held in ours)
            self._room.notify_all()
        self._give_back([held.claim.key for held in ours])

    def _give_back(self, keys: Collection[ClaimKey]) -> None:
        try:
            plans = leases.give_back(keys)
        except SQLAlchemyError as error:
            # Nobody renews these leases any more: they end, and the sweep returns the rows.
            log.warning(
                "claims were not given back; their leases end", extra={"claims": len(keys), "error": str(error)}
            )
        else:
            self._on_returned(plans)

    def forget(self, keys: Collection[ClaimKey]) -> None:
        """Stops the jobs of claims that are another worker's by now; nothing of theirs is written."""
        self._loop.call_soon_threadsafe(self._stop_jobs, dict.fromkeys(keys))

    def _stop_jobs(self, keys: Mapping[ClaimKey, Stopped | None]) -> None:
        for key, stopped in keys.items():
            held = self._held.get(key)
            if held is None:
                continue
            held.stopped, held.lost = stopped, stopped is None
            for task in list(held.running):
                task.cancel()
            if held.lost:
                with self._room:
                    self._let_go(key)
                    self._claimed -= held.unrecorded
                    self._room.notify_all()

    def drain(self) -> None:
        """Waits for the calls in flight and records them; jobs not called are given back to other workers."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()

    async def _drain(self) -> None:
        self._draining = True
        self._caller.stop()
        for held in list(self._held.values()):
            self._cancel_uncalled(held)
        while running := [task for held in list(self._held.values()) for task in held.running]:
            await asyncio.wait(running)
        await self._recorder.finish()
        await self._caller.close()
        await asyncio.to_thread(self._give_back, list(self._held))

    def hasten(self) -> None:
        """Ends a drain: calls in flight are dropped and their jobs given back."""
        self._loop.call_soon_threadsafe(self._drop_calls)

    def _drop_calls(self) -> None:
        self._caller.stop()
        for held in list(self._held.values()):
            for task in list(held.running):
                task.cancel()
