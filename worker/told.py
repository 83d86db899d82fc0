"""What a provider's headers say of its limits: OpenAI's x-ratelimit-*, and Retry-After."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from worker.provider import Response
from worker.rates import Told

MAX_RETRY_AFTER_SECONDS = 120
MOST = 10**12


def by(response: Response) -> Told | None:
    """What an answer told, or None."""
    headers = response.headers
    refused = response.status_code == 429
    wait = min(MAX_RETRY_AFTER_SECONDS, retry_after(headers) or 0.0) if refused else 0.0
    requests = _count(headers.get("x-ratelimit-limit-requests"))
    tokens = _count(headers.get("x-ratelimit-limit-tokens"))
    if not refused and requests <= 0 and tokens <= 0:
        return None
    return Told(
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        requests_remaining=_count(headers.get("x-ratelimit-remaining-requests")),
        tokens_remaining=_count(headers.get("x-ratelimit-remaining-tokens")),
        wait_seconds=max(0.0, wait),
        refused=refused and requests <= 0 and tokens <= 0,
    )


def _count(value: str | None) -> int:
    return min(MOST, int(value)) if value is not None and value.isascii() and value.isdigit() else -1


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the provider asks to wait: `retry-after-ms`, or `retry-after` as seconds or a date (RFC 9110)."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            found = float(milliseconds) / 1000
            return found if math.isfinite(found) else None
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().isdigit():
            return float(value)
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
