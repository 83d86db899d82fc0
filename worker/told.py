"""What a provider's headers say of its limits: OpenAI's x-ratelimit-*, and Retry-After."""

from worker.provider import Response
from worker.rates import Told
from worker.retry_after import retry_after

MAX_RETRY_AFTER_SECONDS = 120
MOST = 10**12


def by(response: Response) -> Told | None:
    """What an answer told, or None. The limits are believed where calls succeed: a refusal may be for another one's."""
    headers = response.headers
    if response.status_code == 429:
        wait = min(MAX_RETRY_AFTER_SECONDS, max(0.0, retry_after(headers) or 0.0))
        return Told(wait_seconds=wait, refused=True)
    if response.status_code // 100 != 2:
        return None
    requests = _count(headers.get("x-ratelimit-limit-requests"))
    tokens = _count(headers.get("x-ratelimit-limit-tokens"))
    if requests <= 0 and tokens <= 0:
        return None
    return Told(
        requests,
        tokens,
        _count(headers.get("x-ratelimit-remaining-requests")),
        _count(headers.get("x-ratelimit-remaining-tokens")),
    )


def _count(value: str | None) -> int:
    return min(MOST, int(value)) if value is not None and value.isascii() and value.isdigit() else -1
