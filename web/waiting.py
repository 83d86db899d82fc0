"""Holding a request until its job has ended: `Prefer: wait=N` (RFC 7240)."""

import contextlib
import re
import threading
import time
from uuid import UUID

from redis.exceptions import RedisError

from common import ids, jobs, queue
from common.errors import InvalidRequest
from common.jobs import Job
from common.settings import settings

MAX_WAIT_SECONDS = 60
LOOK_SECONDS = 1.0
QUICK_SECONDS = 0.05
LOOK_WITHOUT_REDIS_SECONDS = 0.25

# Each waiting request is one of those that a process works on at once; the others must be able to go on.
_places = threading.BoundedSemaphore(max(1, settings().web_requests_at_once * 3 // 4))


def wanted_seconds(prefer: str | None) -> int | None:
    """The N of a Prefer header's `wait=N`, or None without one. Raises InvalidRequest outside 1 to 60."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?([^\",;\s]*)", prefer or "", re.IGNORECASE)
    if found is None:
        return None
    value = found[1]
    if not (value.isascii() and value.isdigit() and len(value) <= 2 and 1 <= int(value) <= MAX_WAIT_SECONDS):
        raise InvalidRequest(f"Prefer: wait takes 1 to {MAX_WAIT_SECONDS} seconds.", param="Prefer")
    return int(value)


def until_ended(account_id: UUID, batch_id: UUID, seconds: int) -> Job:
    """The job of a batch of one as soon as it has ended, or as it is after the time, or at once when too many requests
    wait already."""
    if not _places.acquire(blocking=False):
        return jobs.get(account_id, ids.show("job_", batch_id))
    try:
        return _wait(account_id, batch_id, time.monotonic() + seconds)
    finally:
        _places.release()


def _wait(account_id: UUID, batch_id: UUID, deadline: float) -> Job:
    with queue.listener(queue.redis()) as ended:
        with contextlib.suppress(RedisError):
            # Subscribed before the first look: an end after that look is heard.
            ended.subscribe(queue.finished_channel(batch_id))
            # The answer to that; left unread, it would end the first wait.
            ended.get_message(timeout=LOOK_SECONDS)
            # Then the end of a job that is quick: a look before that would only take time from it.
            ended.get_message(timeout=min(QUICK_SECONDS, deadline - time.monotonic()))
        while True:
            job = jobs.get(account_id, ids.show("job_", batch_id))
            remaining = deadline - time.monotonic()
            if job.status in jobs.ENDED or remaining <= 0:
                return job
            try:
                ended.get_message(timeout=min(LOOK_SECONDS, remaining))
            except (RedisError, RuntimeError):
                time.sleep(min(LOOK_WITHOUT_REDIS_SECONDS, remaining))
