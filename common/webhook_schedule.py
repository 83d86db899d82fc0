"""When a delivery is attempted again."""

import random

# Before each attempt, from the one before it; of the first, from the event.
DELAYS_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
# On top, by chance: receivers that were down together are not called together.
JITTER = 0.1
# A receiver may ask for more time (Retry-After), but not for this much.
MAX_ASKED_SECONDS = 86_400
# An endpoint that has failed for this long is disabled.
FAILING_DAYS = 5


def next_delay(attempts: int, asked_seconds: float | None = None) -> float | None:
    """Seconds until the attempt that follows so many; None when that was the last. The receiver may have asked for a
    time without one."""
    if attempts >= len(DELAYS_SECONDS):
        return None
    delay = DELAYS_SECONDS[attempts] * (1 + JITTER * random.random())
    return max(delay, min(asked_seconds or 0.0, MAX_ASKED_SECONDS))
