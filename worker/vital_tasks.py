"""Tasks of an event loop without which a process must not look alive. Where one fails the process ends, so that a
supervisor starts another, and what it held is taken over."""

import asyncio
import logging
import os

log = logging.getLogger(__name__)

EXIT_STATUS_TASK_FAILED = 70


def end_process_if_failed(task: "asyncio.Task[None]") -> None:
    """To be called back when a task is done."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s failed; the process ends", task.get_name(), exc_info=error)
        os._exit(EXIT_STATUS_TASK_FAILED)
