"""Statements that an event loop has run beside it."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)

T = TypeVar("T")

AWAY_SECONDS = 1.0


async def in_thread(threads: Executor, act: Callable[[], T], otherwise: T) -> T:
    """What the verb gives; while the database is away, the other thing after a while."""
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, act)
    except SQLAlchemyError as error:
        log.warning("the database is waited for", extra={"error": str(error)})
        await asyncio.sleep(AWAY_SECONDS)
        return otherwise
