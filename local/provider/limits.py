"""Rate limits as OpenAI keeps them: requests and tokens per minute and model, refilled steadily, told in headers."""

import math
from collections.abc import Callable

from local.provider.behaviour import Behaviour
from local.provider.errors import Error, RefusedError, over_limit, rate_limited, with_headers

MAX_MODELS = 1_000
SECONDS = 60


def limit_headers(unit: str, limit: int, remaining: int, reset_seconds: float) -> bytes:
    """The three header lines of one limit; reset is when the whole limit is there again."""
    lines = (
        f"x-ratelimit-limit-{unit}: {limit}\r\n"
        f"x-ratelimit-remaining-{unit}: {remaining}\r\n"
        f"x-ratelimit-reset-{unit}: {_duration(reset_seconds)}\r\n"
    )
    return lines.encode()


def _duration(seconds: float) -> str:
    """A wait as OpenAI writes it: 17ms, 8.64s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1_000)}ms"
    if seconds < SECONDS:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(math.ceil(seconds), SECONDS)
    return f"{minutes}m{rest}s"


class _Bucket:
    """So many a minute; a full minute's worth may go at once."""

    def __init__(self, unit: str, limit: int, now: float) -> None:
        self.unit = unit
        self.limit = limit
        self._level = float(limit)
        self._at = now

    def refill(self, now: float) -> None:
        self._level = min(self.limit, self._level + (now - self._at) * self.limit / SECONDS)
        self._at = now

    def take(self, amount: int) -> None:
        self._level -= amount

    def wait(self, amount: int) -> float:
        """Seconds until so much is there; 0 when it is there now."""
        return max(0.0, (amount - self._level) * SECONDS / self.limit)

    def refusal(self, model: str, amount: int) -> Error:
        if amount > self.limit:
            return over_limit(model, self.unit, self.limit, amount)
        used = self.limit - self.remaining
        return rate_limited(model, self.unit, self.limit, used, amount, self.wait(amount))

    @property
    def remaining(self) -> int:
        # A hair more than the level: what rounding lost in refilling must not cost a whole request.
        return max(0, math.floor(self._level + 1e-6))

    def headers(self) -> bytes:
        return limit_headers(self.unit, self.limit, self.remaining, self.wait(self.limit))


class Limits:
    """The buckets of every limited model."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def reset(self) -> None:
        self._buckets.clear()

    def take(self, model: str, behaviour: Behaviour, tokens: int) -> bytes:
        """The header lines of an answer that was let through. Raises RefusedError (429), which takes nothing."""
        now = self._clock()
        amounts = [("requests", behaviour.rpm, 1), ("tokens", behaviour.tpm, tokens)]
        wanted = [(self._bucket(model, unit, limit, now), amount) for unit, limit, amount in amounts if limit]
        short = next(((bucket, amount) for bucket, amount in wanted if bucket.wait(amount) > 1e-6), None)
        if short is None:
            for bucket, amount in wanted:
                bucket.take(amount)
        headers = b"".join(bucket.headers() for bucket, _ in wanted)
        if short is not None:
            raise RefusedError(with_headers(short[0].refusal(model, short[1]), headers))
        return headers

    def _bucket(self, model: str, unit: str, limit: int, now: float) -> _Bucket:
        bucket = self._buckets.get((model, unit))
        if bucket is None or bucket.limit != limit:
            if len(self._buckets) >= 2 * MAX_MODELS:
                self._buckets.clear()
            bucket = self._buckets[model, unit] = _Bucket(unit, limit, now)
        bucket.refill(now)
        return bucket
