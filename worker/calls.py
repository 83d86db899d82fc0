"""Calling the model: one attempt after another until the job has an answer, or has failed for good."""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from common.prices import price_of
from common.settings import settings
from worker import answers
from worker.claims import Claim, ClaimedJob
from worker.endings import Stopped, reason
from worker.outcomes import Outcome, TokenUsage
from worker.provider import Provider, ProviderTimeout, ProviderUnreachable, Response

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30
MAX_RETRY_AFTER_SECONDS = 120
RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 whose body is a JSON object."""

    body: bytes
    usage: TokenUsage
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt gave no answer, and whether another attempt may."""

    code: str
    message: str
    retried: bool
    status_code: int | None = None
    body: bytes | None = None
    request_id: str | None = None
    retry_after: float | None = None


@dataclass(slots=True)
class Progress:
    """How far a job has come."""

    attempts: int = 0
    calling: bool = False
    started_at: datetime | None = None

    def begin_attempt(self) -> None:
        self.attempts += 1
        self.calling = True
        self.started_at = self.started_at or datetime.now(UTC)


class Caller:
    """Calls one provider from one event loop. `concurrency` bounds the calls in flight."""

    def __init__(self, concurrency: int) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._stopping = False
        self._provider = Provider()

    def stop(self) -> None:
        """From now on no call begins; those in flight go on."""
        self._stopping = True

    async def close(self) -> None:
        await self._provider.close()

    async def run(self, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome | None:
        """The job's outcome, after as many attempts as it takes and the settings allow; None when stopped before."""
        while True:
            async with self._slots:
                if self._stopping:
                    return None
                progress.begin_attempt()
                result = await self._attempt(claim.endpoint, job.body)
                progress.calling = False
            if isinstance(result, Answer):
                return self._succeeded(claim, job, result, progress)
            if not result.retried or progress.attempts >= settings().call_attempts:
                return self._failed(claim, job, result, progress)
            await asyncio.sleep(_pause(progress.attempts, result.retry_after))

    def stopped(self, claim: Claim, job: ClaimedJob, progress: Progress, how: Stopped) -> Outcome:
        """The outcome of a job whose batch was stopped, before its call or during it."""
        code, message = reason(how, claim.single)
        return replace(self._failed(claim, job, Failure(code, message, retried=False), progress), kind=how)

    def broken(self, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome:
        """The outcome of a job that this program could not handle: it fails alone, and named so."""
        failure = Failure("internal_error", "The job could not be handled; the operator's log says why.", retried=False)
        return self._failed(claim, job, failure, progress)

    async def _attempt(self, endpoint: str, body: bytes) -> Answer | Failure:
        try:
            response = await self._provider.post(endpoint, body)
        except ProviderTimeout:
            seconds = settings().call_timeout_seconds
            return Failure("timeout", f"The provider did not answer within {seconds:g} s.", retried=True)
        except ProviderUnreachable as error:
            return Failure("connection_error", f"The connection to the provider failed: {error}.", retried=True)
        return _answer(response) if response.status_code // 100 == 2 else _refusal(response)

    def _succeeded(self, claim: Claim, job: ClaimedJob, answer: Answer, progress: Progress) -> Outcome:
        model = claim.model or answers.model_of(job.body)
        return Outcome(
            claim=claim,
            job=job,
            kind="succeeded",
            status_code=200,
            body=answer.body,
            error_code=None,
            error_message=None,
            attempts=progress.attempts,
            provider=self._provider.host,
            request_id=answer.request_id,
            started_at=progress.started_at,
            finished_at=datetime.now(UTC),
            model=model,
            usage=answer.usage,
            price=price_of(model),
        )

    def _failed(self, claim: Claim, job: ClaimedJob, failure: Failure, progress: Progress) -> Outcome:
        return Outcome(
            claim=claim,
            job=job,
            kind="failed",
            status_code=failure.status_code,
            body=failure.body,
            error_code=failure.code,
            error_message=failure.message,
            attempts=progress.attempts,
            provider=self._provider.host,
            request_id=failure.request_id,
            started_at=progress.started_at,
            finished_at=datetime.now(UTC),
        )


def _answer(response: Response) -> Answer | Failure:
    answer = answers.parse(response.body)
    if answer is None:
        message = "The provider answered 200 with a body that is no JSON object."
        return Failure("invalid_response", message, True, 200, response.body, response.request_id)
    return Answer(response.body, answers.usage_of(answer), response.request_id)


def _refusal(response: Response) -> Failure:
    """A failure that keeps the provider's own code and message, unless it is about the operator's key: that is not the
    customer's to see."""
    if response.status_code == 401:
        # Its answer shows a part of the key, so it goes nowhere.
        log.error("the provider refuses PROVIDER_API_KEY")
        refusal = "The provider refused this service's own key; its operator has to act."
        return Failure("provider_refused", refusal, retried=False, status_code=401)
    code, message = answers.error_of(response.body)
    # An exhausted balance is a 429 too, and no retry mends it.
    retried = response.status_code in RETRIED_STATUS and code != "insufficient_quota"
    return Failure(
        code=code or f"http_{response.status_code}",
        message=message or f"The provider answered {response.status_code}.",
        retried=retried,
        status_code=response.status_code,
        body=response.body,
        request_id=response.request_id,
        retry_after=_retry_after(response.headers),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the provider asks to wait: `retry-after-ms`, or `retry-after` as seconds or a date (RFC 9110)."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return float(milliseconds) / 1000
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().isdigit():
            return float(value)
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None


def _pause(attempts: int, retry_after: float | None) -> float:
    """Exponential back-off with full jitter, so that calls refused together do not come back together; never sooner
    than the provider asked."""
    backoff = random.uniform(0, min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**attempts))
    if retry_after is None or not retry_after > 0:
        return backoff
    return min(retry_after, MAX_RETRY_AFTER_SECONDS) + backoff
