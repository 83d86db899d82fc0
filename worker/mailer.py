"""Sending mails: claims what is due, sends a few at once and records what came of each, on an event loop of its own, so
that a mail server that hangs holds up no webhook, nor the other way round."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import uvloop
from sqlalchemy.exc import SQLAlchemyError

from worker import mail_claims, mail_records, mail_sender
from worker.database_threads import in_thread
from worker.mail_claims import ClaimedMail
from worker.mail_sender import MailAttempt
from worker.vital_tasks import end_process_if_failed

log = logging.getLogger(__name__)

# At once, to the one mail server there is.
CONCURRENCY = 8
# What is due is noticed within this.
LOOK_SECONDS = 1.0
DATABASE_THREADS = 2
MAX_PAUSE_SECONDS = 5.0


class Mailer:
    """Public methods may be called from any thread."""

    def __init__(self) -> None:
        self._draining = False
        self._running: set[asyncio.Task[None]] = set()
        self._database = ThreadPoolExecutor(max_workers=DATABASE_THREADS, thread_name_prefix="mails")
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="mailer", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._prepare(), self._loop).result()

    async def _prepare(self) -> None:
        self._woken = asyncio.Event()
        self._working = asyncio.create_task(self._work(), name="mailer")
        self._working.add_done_callback(end_process_if_failed)

    def drain(self) -> None:
        """Claims nothing more, and returns when all that is under way is recorded."""
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def hasten(self) -> None:
        """Makes a drain wait no longer: mails under way are dropped, and sent again after their leases."""
        self._loop.call_soon_threadsafe(self._drop)

    async def _work(self) -> None:
        while not self._draining:
            await in_thread(self._database, mail_claims.mend, None)
            if room := CONCURRENCY - len(self._running):
                taken: list[ClaimedMail] = await in_thread(self._database, partial(mail_claims.take, room), [])
                for mail in taken:
                    self._start(mail)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)
            self._woken.clear()

    def _start(self, mail: ClaimedMail) -> None:
        task = asyncio.create_task(self._send(mail))
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _send(self, mail: ClaimedMail) -> None:
        await self._record(await mail_sender.send(mail))

    async def _record(self, attempt: MailAttempt) -> None:
        """Waits out a database that is away, for what came of the attempt is known here alone."""
        pause = 0.1
        while True:
            try:
                await self._loop.run_in_executor(self._database, mail_records.record, attempt)
                return
            except SQLAlchemyError as error:
                log.warning("a mail's record waits for the database", extra={"error": str(error)})
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE_SECONDS, pause * 2)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """There is room again."""
        self._running.discard(task)
        self._woken.set()

    async def _drain(self) -> None:
        self._draining = True
        self._woken.set()
        # What was being claimed is started first.
        await self._working
        await asyncio.gather(*self._running, return_exceptions=True)

    def _drop(self) -> None:
        for task in self._running:
            task.cancel()
