"""Calling the model: one attempt after another until the job has an answer, or has failed for good."""

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from common.prices import price_of
from common.settings import settings
from worker import answers, told
from worker.claims import Claim, ClaimedJob
from worker.endings import Stopped, reason
from worker.lanes import Elsewhere, Verdict
from worker.outcomes import Outcome, TokenUsage
from worker.provider import Provider, ProviderTimeout, ProviderUnreachable, Response
from worker.rates import Told
from worker.retry_after import retry_after
from worker.routes import Route, Routes

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
    verdict: Verdict = "answers"


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
    # What it says of the provider.
    verdict: Verdict = "answers"


@dataclass(slots=True)
class Progress:
    """How far a job has come; `began` is its first attempt on the monotonic clock, and `route` the one of its last."""

    attempts: int = 0
    calling: bool = False
    started_at: datetime | None = None
    began: float = 0.0
    route: Route | None = None
    _attempts_by_model: dict[str, int] = field(default_factory=dict)

    def begin_attempt(self, route: Route) -> None:
        if not self.attempts:
            self.started_at = datetime.now(UTC)
            self.began = time.monotonic()
        self.attempts += 1
        self.calling = True
        self.route = route
        self._attempts_by_model[route.model] = self.attempts_on(route) + 1

    def attempts_on(self, route: Route) -> int:
        return self._attempts_by_model.get(route.model, 0)

    def is_exhausted(self, route: Route) -> bool:
        """Whether a job that this provider failed has had its attempts there, and has lasted longer than an outage
        may."""
        lasted = time.monotonic() - self.began
        return self.attempts_on(route) >= settings().call_attempts and lasted >= settings().outage_seconds


class Caller:
    """Calls the providers from one event loop. `concurrency` bounds the calls in flight; `process` is the name under
    which those are counted where limits are shared."""

    def __init__(self, concurrency: int, process: str) -> None:
        self.routes = Routes(concurrency, process)
        self._stopping = False

    def stop(self) -> None:
        """From now on no call begins; those in flight go on."""
        self._stopping = True

    async def close(self) -> None:
        await self.routes.close()

    async def run(self, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome | None:
        """The job's outcome, after as many attempts as it takes and the settings allow, by the model's own provider or
        the next of its fallbacks, at its deadline at the latest; None when stopped before."""
        if claim.ends_at is None:
            return await self._run(claim, job, progress)
        seconds_left = claim.ends_at - time.monotonic()
        if seconds_left > 0:
            try:
                async with asyncio.timeout(seconds_left) as deadline:
                    return await self._run(claim, job, progress)
            except TimeoutError:
                if not deadline.expired():
                    raise
        return self.stopped(claim, job, progress, "expired")

    async def _run(self, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome | None:
        asked = claim.model or answers.model_of(job.body)
        routes = self.routes.of(asked)
        while True:
            route = next((route for route in routes if route.lane.open), routes[0])
            result = await self._attempt(claim, job, asked, progress, route, movable=len(routes) > 1)
            if result is None:
                return None
            if isinstance(result, Elsewhere):
                continue
            if isinstance(result, Answer):
                return self._succeeded(claim, job, result, progress, route)
            if not result.retried:
                return self._failed(claim, job, result, progress, route)
            if progress.is_exhausted(route):
                routes = routes[routes.index(route) + 1 :]
                if not routes:
                    return self._failed(claim, job, result, progress, route)
                continue
            await asyncio.sleep(_pause(progress.attempts_on(route), result.retry_after))

    async def _attempt(
        self, claim: Claim, job: ClaimedJob, asked: str, progress: Progress, route: Route, *, movable: bool
    ) -> Answer | Failure | Elsewhere | None:
        """What one call came to; Elsewhere where its lane closed before it, and None when stopped before."""
        try:
            place = await route.lane.enter(claim.account_id, job.tokens, single=claim.single, movable=movable)
        except Elsewhere as elsewhere:
            return elsewhere
        if self._stopping:
            route.lane.abandon(place)
            return None
        body = job.body if asked == route.upstream else answers.for_model(job.body, route.upstream)
        progress.begin_attempt(route)
        try:
            result, said = await self._call(claim.endpoint, body, route)
        except BaseException:
            route.lane.abandon(place)
            raise
        finally:
            progress.calling = False
        used = result.usage.prompt_tokens + result.usage.completion_tokens if isinstance(result, Answer) else 0
        route.lane.leave(place, result.verdict, used, said)
        return result

    async def _call(self, endpoint: str, body: bytes, route: Route) -> tuple[Answer | Failure, Told | None]:
        try:
            response = await route.provider.post(endpoint, body)
        except ProviderTimeout:
            seconds = settings().call_timeout_seconds
            message = f"The provider did not answer within {seconds:g} s."
            return Failure("timeout", message, retried=True, verdict="times_out"), None
        except ProviderUnreachable as error:
            message = f"The connection to the provider failed: {error}."
            return Failure("connection_error", message, retried=True, verdict="fails"), None
        result = _answer(response) if response.status_code // 100 == 2 else _refusal(response, route.provider)
        return result, told.by(response)

    def stopped(self, claim: Claim, job: ClaimedJob, progress: Progress, how: Stopped) -> Outcome:
        """The outcome of a job whose batch was stopped, before its call or during it."""
        code, message = reason(how, claim.single)
        return replace(self._unanswered(claim, job, Failure(code, message, retried=False), progress), kind=how)

    def broken(self, claim: Claim, job: ClaimedJob, progress: Progress) -> Outcome:
        """The outcome of a job that this program could not handle: it fails alone, and named so."""
        failure = Failure("internal_error", "The job could not be handled; the operator's log says why.", retried=False)
        return self._unanswered(claim, job, failure, progress)

    def crashed(self, claim: Claim, job: ClaimedJob) -> Outcome:
        """The outcome of a job whose every process died with it."""
        message = (
            f"The worker processes that ran this row died, {claim.deaths} of them one after the other, the last ones "
            "with this row alone under suspicion. It was not run again; the operator's log has more."
        )
        failure = Failure("worker_crashed", message, retried=False)
        return self._unanswered(claim, job, failure, Progress(attempts=claim.deaths))

    def _succeeded(self, claim: Claim, job: ClaimedJob, answer: Answer, progress: Progress, route: Route) -> Outcome:
        return Outcome(
            claim=claim,
            job=job,
            kind="succeeded",
            status_code=200,
            body=answer.body,
            error_code=None,
            error_message=None,
            attempts=progress.attempts,
            provider=route.provider.name,
            request_id=answer.request_id,
            started_at=progress.started_at,
            finished_at=datetime.now(UTC),
            model=route.model,
            usage=answer.usage,
            price=price_of(route.model),
        )

    def _unanswered(self, claim: Claim, job: ClaimedJob, failure: Failure, progress: Progress) -> Outcome:
        """A failure that is nobody's answer; it names the provider that was asked last."""
        route = progress.route or self.routes.of(claim.model or answers.model_of(job.body))[0]
        return self._failed(claim, job, failure, progress, route)

    def _failed(self, claim: Claim, job: ClaimedJob, failure: Failure, progress: Progress, route: Route) -> Outcome:
        return Outcome(
            claim=claim,
            job=job,
            kind="failed",
            status_code=failure.status_code,
            body=failure.body,
            error_code=failure.code,
            error_message=failure.message,
            attempts=progress.attempts,
            provider=route.provider.name,
            request_id=failure.request_id,
            started_at=progress.started_at,
            finished_at=datetime.now(UTC),
        )


def _answer(response: Response) -> Answer | Failure:
    answer = answers.parse(response.body)
    if answer is None:
        message = "The provider answered 200 with a body that is no JSON object."
        return Failure("invalid_response", message, True, 200, response.body, response.request_id, verdict="fails")
    return Answer(response.body, answers.usage_of(answer), response.request_id)


def _refusal(response: Response, provider: Provider) -> Failure:
    """A failure that keeps the provider's own code and message, unless it is about the operator's key: that is not the
    customer's to see."""
    if response.status_code == 401:
        # Its answer shows a part of the key, so it goes nowhere.
        log.error("a provider refuses its API key", extra={"provider": provider.name})
        refusal = "The provider refused this service's own key; its operator has to act."
        return Failure("provider_refused", refusal, retried=False, status_code=401)
    code, message = answers.error_of(response.body)
    return Failure(
        code=code or f"http_{response.status_code}",
        message=message or f"The provider answered {response.status_code}.",
        retried=response.status_code in RETRIED_STATUS,
        status_code=response.status_code,
        body=response.body,
        request_id=response.request_id,
        retry_after=retry_after(response.headers),
        verdict=_verdict(response.status_code, code),
    )


def _verdict(status_code: int, code: str | None) -> Verdict:
    if status_code == 429:
        # An exhausted balance is a 429 too.
        return "refuses" if code == "insufficient_quota" else "limits"
    return "fails" if status_code >= 500 else "answers"


def _pause(attempts: int, retry_after: float | None) -> float:
    """Exponential back-off with full jitter, so that calls refused together do not come back together; never sooner
    than the provider asked."""
    backoff = random.uniform(0, min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**attempts))
    if retry_after is None or not retry_after > 0:
        return backoff
    return min(retry_after, MAX_RETRY_AFTER_SECONDS) + backoff
