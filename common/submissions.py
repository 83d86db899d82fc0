"""Single jobs on their way into PostgreSQL: those of one account that come at once are stored in one transaction.

Each job's admission holds the row of its account's quota until its commit, so that one after the other an account's
jobs could not come faster than commits do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from common import json_text, queue, quotas, remembered_keys, together
from common.database import as_account, write_one
from common.errors import QuotaExceeded
from common.grouped import Grouped
from common.quotas import Allowance
from common.remembered_keys import CONFIRMED, NotConfirmed, Remembered
from common.submission_webhooks import Webhook


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as it is stored; `tokens` and `cost`, in nano-dollars, are held for it, and `expires_in` is its time in
    seconds, if it has one. Where its key is `remembered`, it is stored if that is as it was."""

    id: UUID
    api_key_id: UUID
    endpoint: str
    model: str
    metadata: dict[str, str] | None
    custom_id: str
    body: bytes
    tokens: int
    cost: int
    expires_in: int | None = None
    webhook: Webhook | None = None
    remembered: Remembered | None = None


def store(submission: Submission, allowance: Allowance) -> datetime:
    """Stores a job with what it may use held, has a worker woken, and returns when. Raises QuotaExceeded and
    NotConfirmed."""
    if together.current() is not None:
        # A part of the request's own transaction.
        (outcome,) = _store(allowance, [submission])
        _announce(allowance)
    else:
        outcome = _grouped.go(allowance, submission)
    if isinstance(outcome, datetime):
        return outcome
    raise outcome


_Outcome = datetime | QuotaExceeded | NotConfirmed


def _announce(allowance: Allowance) -> None:
    """One ticket is as good for all of them."""
    queue.announce_work(allowance.limits.name)


def _store(allowance: Allowance, submissions: Sequence[Submission]) -> list[_Outcome]:
    """The outcome of each. Where they cannot all be stored, each is tried by itself."""
    confirmed, moment = _insert(submissions, allowance)
    if moment is not None:
        return [moment] * len(submissions)
    if len(submissions) > 1:
        return [outcome for submission in submissions for outcome in _store(allowance, [submission])]
    if not confirmed:
        return [NotConfirmed()]
    with as_account(allowance.account_id) as connection:
        quotas.ensure(connection, allowance)
    confirmed, moment = _insert(submissions, allowance)
    if moment is not None:
        return [moment]
    if not confirmed:
        return [NotConfirmed()]
    with as_account(allowance.account_id) as connection:
        return [quotas.refusal(connection, allowance, submissions[0].tokens, submissions[0].cost)]


_grouped = Grouped(_store, _announce)


def _insert(submissions: Sequence[Submission], allowance: Allowance) -> tuple[bool, datetime | None]:
    """Whether all keys are as remembered, and when the jobs were stored, if there was room."""
    limits = allowance.limits
    parameters: dict[str, Any] = {
        "account_id": allowance.account_id,
        "period_start": allowance.period_start,
        "tokens_per_month": limits.tokens_per_month,
        "max_queued_tokens": limits.max_queued_tokens,
        "hard_cap": allowance.hard_cap,
        "plan": limits.name,
        "tokens": sum([job.tokens for job in submissions]),
        "cost": sum([job.cost for job in submissions]),
        "jobs": json_text.dumps([_row(job) for job in submissions]).decode(),
        "bodies": [job.body for job in submissions],
    } | remembered_keys.parameters(list({job.remembered for job in submissions if job.remembered is not None}))
    row = write_one(_INSERT, parameters)
    assert row is not None
    return row[0], row[1]


def _row(job: Submission) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": job.id.hex,
        "api_key_id": job.api_key_id.hex,
        "endpoint": job.endpoint,
        "model": job.model,
        "metadata": job.metadata,
        "custom_id": job.custom_id,
        "tokens": job.tokens,
        "cost": job.cost,
        "expires_in": job.expires_in,
    }
    if job.webhook is not None:
        row |= {"webhook_url": job.webhook.url, "webhook_events": job.webhook.events}
    return row


_INSERT: LiteralString = f"""
    WITH keys AS MATERIALIZED (SELECT ({CONFIRMED}) AS confirmed)
    SELECT confirmed, CASE WHEN confirmed THEN store_single_jobs(
        %(account_id)s, %(period_start)s, %(tokens_per_month)s::bigint, %(max_queued_tokens)s::bigint,
        %(hard_cap)s::bigint, %(tokens)s::bigint, %(cost)s::bigint, %(plan)s, %(jobs)s::jsonb, %(bodies)s::bytea[]) END
    FROM keys
"""
