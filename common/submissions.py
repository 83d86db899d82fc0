"""Single jobs on their way into PostgreSQL: those of one account that come at once are stored in one transaction.

Each job's admission holds the row of its account's quota until its commit, so that one after the other an account's
jobs could not come faster than commits do. Here a job that comes while another is being stored waits for that one, and
then goes together with all that waited: the first alone, as fast as ever, and under load as many as there are. Nobody
waits for company that is not there yet.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from common import queue, quotas, together
from common.database import as_account, write_one
from common.errors import QuotaExceeded
from common.quotas import Allowance


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as it is stored. `metadata` is JSON; `tokens` and `cost`, in nano-dollars, are held for it."""

    id: UUID
    api_key_id: UUID
    endpoint: str
    model: str
    metadata: str | None
    custom_id: str
    body: bytes
    tokens: int
    cost: int


def store(submission: Submission, allowance: Allowance) -> datetime:
    """Stores a job with what it may use held, has a worker woken, and returns when. Raises QuotaExceeded."""
    if together.current() is not None:
        # A part of the request's own transaction.
        (outcome,) = _store([submission], allowance)
        queue.announce_work(allowance.limits.name)
    else:
        outcome = _lines.go(_Waiting(submission), allowance)
    if isinstance(outcome, datetime):
        return outcome
    raise outcome


_Outcome = datetime | QuotaExceeded


@dataclass(eq=False, slots=True)
class _Waiting:
    """A job whose thread waits: for its outcome, or to be the one that stores these, itself the first of them."""

    submission: Submission
    answer: "Future[_Outcome | list[_Waiting]]" = field(default_factory=Future)


class _Lines:
    """The jobs that wait, in a line for each allowance of which jobs are being stored."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Allowance, list[_Waiting]] = {}

    def go(self, mine: _Waiting, allowance: Allowance) -> _Outcome:
        with self._lock:
            line = self._waiting.get(allowance)
            if line is None:
                self._waiting[allowance] = []
            else:
                line.append(mine)
        group = [mine]
        if line is not None:
            answer = mine.answer.result()
            if not isinstance(answer, list):
                return answer
            group = answer
        try:
            outcomes = _store([waiting.submission for waiting in group], allowance)
        except BaseException as error:
            for waiting in group[1:]:
                waiting.answer.set_exception(error)
            raise
        finally:
            self._next(allowance)
        # One ticket is as good for all of them.
        queue.announce_work(allowance.limits.name)
        for waiting, outcome in zip(group[1:], outcomes[1:], strict=True):
            waiting.answer.set_result(outcome)
        return outcomes[0]

    def _next(self, allowance: Allowance) -> None:
        """Whoever waited meanwhile goes now, all together."""
        with self._lock:
            line = self._waiting[allowance]
            if not line:
                del self._waiting[allowance]
                return
            self._waiting[allowance] = []
        line[0].answer.set_result(line)


_lines = _Lines()


def _store(submissions: Sequence[Submission], allowance: Allowance) -> list[_Outcome]:
    """The outcome of each. Where there is no room for all of them, each is tried by itself."""
    if (moment := _insert(submissions, allowance)) is not None:
        return [moment] * len(submissions)
    if len(submissions) > 1:
        return [outcome for submission in submissions for outcome in _store([submission], allowance)]
    with as_account(allowance.account_id) as connection:
        quotas.ensure(connection, allowance)
    if (moment := _insert(submissions, allowance)) is not None:
        return [moment]
    with as_account(allowance.account_id) as connection:
        return [quotas.refusal(connection, allowance, submissions[0].tokens, submissions[0].cost)]


def _insert(submissions: Sequence[Submission], allowance: Allowance) -> datetime | None:
    limits = allowance.limits
    parameters: dict[str, Any] = {
        "account_id": allowance.account_id,
        "period_start": allowance.period_start,
        "tokens_per_month": limits.tokens_per_month,
        "max_queued_tokens": limits.max_queued_tokens,
        "hard_cap": allowance.hard_cap,
        "plan": limits.name,
        "ids": [job.id for job in submissions],
        "api_key_ids": [job.api_key_id for job in submissions],
        "endpoints": [job.endpoint for job in submissions],
        "models": [job.model for job in submissions],
        "metadatas": [job.metadata for job in submissions],
        "custom_ids": [job.custom_id for job in submissions],
        "bodies": [job.body for job in submissions],
        "job_tokens": [job.tokens for job in submissions],
        "job_costs": [job.cost for job in submissions],
    }
    row = write_one(_INSERT, parameters)
    return row[0] if row is not None else None


_INSERT: LiteralString = """
    SELECT store_single_jobs(%(account_id)s, %(period_start)s, %(tokens_per_month)s::bigint,
        %(max_queued_tokens)s::bigint, %(hard_cap)s::bigint, %(plan)s, %(ids)s::uuid[], %(api_key_ids)s::uuid[],
        %(endpoints)s::text[], %(models)s::text[], %(metadatas)s::text[], %(custom_ids)s::text[], %(bodies)s::bytea[],
        %(job_tokens)s::int[], %(job_costs)s::bigint[])
"""
