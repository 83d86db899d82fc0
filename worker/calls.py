"""Calling the model: one attempt after another until the job has an answer, or has failed for good.

The openai SDK's low-level `post` carries the customer's own JSON as it was submitted: no typed request or response is
built, which is most of what a call costs in the SDK's usual methods.
"""

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
import openai

from common.prices import price_of
from common.settings import settings
from worker import answers
from worker.claims import Claim, ClaimedJob
from worker.outcomes import Outcome, TokenUsage

CONNECT_SECONDS = 5.0
log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30
MAX_RETRY_AFTER_SECONDS = 120
KEEPALIVE_SECONDS = 30
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
        self.provider = urlsplit(settings().provider_url).hostname or "provider"
        self._client = openai.AsyncOpenAI(
            base_url=settings().provider_url,
            api_key=settings().provider_api_key.get_secret_value(),
            # Retries are the job's own, made here, where they give their slot back while they wait.
            max_retries=0,
            timeout=httpx2.Timeout(settings().call_timeout_seconds, connect=CONNECT_SECONDS),
            http_client=openai.DefaultAioHttpClient(
                # Without a number the transport takes aiohttp's own, 100.
                limits=httpx2.Limits(max_connections=concurrency, keepalive_expiry=KEEPALIVE_SECONDS)
            ),
        )

    def stop(self) -> None:
        """From now on no call begins; those in flight go on."""
        self._stopping = True

    async def close(self) -> None:
        await self._client.close()

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

    def cancelled(self, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome:
        """The outcome of a job whose batch was cancelled, before its call or during it."""
        failure = Failure("cancelled", "The batch was cancelled.", retried=False)
        return replace(self._failed(claim, job, failure, progress), kind="cancelled")

    def broken(self, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome:
        """The outcome of a job that this program could not handle: it fails alone, and named so."""
        failure = Failure("internal_error", "The job could not be handled; the operator's log says why.", retried=False)
        return self._failed(claim, job, failure, progress)

    async def _attempt(self, endpoint: str, body: bytes) -> Answer | Failure:
        try:
            # The aiohttp transport limits each read but not the whole call.
            async with asyncio.timeout(settings().call_timeout_seconds):
                response = await self._client.post(endpoint.removeprefix("/v1"), cast_to=httpx2.Response, content=body)
        except openai.APIStatusError as error:
            return _refusal(error.response)
        except (TimeoutError, openai.APIConnectionError, httpx2.HTTPError) as error:
            reason = error.__cause__ or error
            # The transport calls it a time-out, too, when a connection is refused.
            if isinstance(error, (TimeoutError, openai.APITimeoutError)) and not isinstance(
                reason, httpx2.ConnectTimeout
            ):
                seconds = settings().call_timeout_seconds
                return Failure("timeout", f"The provider did not answer within {seconds:g} s.", retried=True)
            return Failure("connection_error", f"The connection to the provider failed: {reason}.", retried=True)
        return _answer(response)

    def _succeeded(self, claim: Claim, job: ClaimedJob, answer: Answer, progress: Progress) -> Outcome:
        model = claim.model or answers.model_of(job.body)
        return Outcome(
            claim=claim,
            seq=job.seq,
            kind="succeeded",
            status_code=200,
            body=answer.body,
            error_code=None,
            error_message=None,
            attempts=progress.attempts,
            provider=self.provider,
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
            seq=job.seq,
            kind="failed",
            status_code=failure.status_code,
            body=failure.body,
            error_code=failure.code,
            error_message=failure.message,
            attempts=progress.attempts,
            provider=self.provider,
            request_id=failure.request_id,
            started_at=progress.started_at,
            finished_at=datetime.now(UTC),
        )


def _answer(response: httpx2.Response) -> Answer | Failure:
    body, request_id = response.content, response.headers.get("x-request-id")
    answer = answers.parse(body)
    if answer is None:
        message = "The provider answered 200 with a body that is no JSON object."
        return Failure("invalid_response", message, True, response.status_code, body, request_id)
    return Answer(body, answers.usage_of(answer), request_id)


def _refusal(response: httpx2.Response) -> Failure:
    """A failure that keeps the provider's own code and message, unless it is about the operator's key: that is not the
    customer's to see."""
    if response.status_code == 401:
        # Its answer shows a part of the key, so it goes nowhere.
        log.error("the provider refuses PROVIDER_API_KEY")
        refusal = "The provider refused this service's own key; its operator has to act."
        return Failure("provider_refused", refusal, retried=False, status_code=401)
    code, message = answers.error_of(response.content)
    # An exhausted balance is a 429 too, and no retry mends it.
    retried = response.status_code in RETRIED_STATUS and code != "insufficient_quota"
    return Failure(
        code=code or f"http_{response.status_code}",
        message=message or f"The provider answered {response.status_code}.",
        retried=retried,
        status_code=response.status_code,
        body=response.content,
        request_id=response.headers.get("x-request-id"),
        retry_after=_retry_after(response.headers),
    )


def _retry_after(headers: httpx2.Headers) -> float | None:
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
