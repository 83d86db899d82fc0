"""Whether a model of a provider is called at all: after a run of failures only probes are, until one succeeds.

What fails here is the provider's doing: no connection, no answer, an error of its own. A refusal of one request, and a
rate limit, are not.
"""

import random
from collections import deque

FAILURES_IN_A_ROW = 5
SAMPLE = 20
SAMPLE_SECONDS = 10.0
FAILING_SHARE = 0.5
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 8.0
# An exhausted balance mends itself less quickly.
REFUSED_PAUSE_SECONDS = 15.0
MAX_REFUSED_PAUSE_SECONDS = 60.0
JITTER = 0.2


class Breaker:
    """Times are of one monotonic clock, in seconds. Calls that began before the last change of state say nothing."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, bool]] = deque(maxlen=SAMPLE)
        self._in_a_row = 0
        self._changed_at = float("-inf")
        self._pause = 0.0
        self._probing = False
        self.probes_at: float | None = None

    @property
    def closed(self) -> bool:
        return self.probes_at is None

    def may_begin(self, now: float) -> bool:
        return self.probes_at is None or (now >= self.probes_at and not self._probing)

    def begin(self) -> None:
        """A call begins; while open it is the probe."""
        self._probing = self.probes_at is not None

    def succeeded(self, began: float, now: float) -> bool:
        """Whether this closed it."""
        if self.probes_at is None:
            self._in_a_row = 0
            self._recent.append((now, True))
            return False
        if began < self._changed_at:
            return False
        self._close(now)
        return True

    def failed(self, began: float, now: float) -> bool:
        """Whether this opened it, or kept it open for longer."""
        if began < self._changed_at:
            return False
        if self.probes_at is not None:
            self._open(now, min(MAX_PAUSE_SECONDS, self._pause * 2))
            return True
        self._in_a_row += 1
        self._recent.append((now, False))
        if self._in_a_row >= FAILURES_IN_A_ROW or self._failing(now):
            self._open(now, FIRST_PAUSE_SECONDS)
            return True
        return False

    def refused(self, began: float, now: float) -> bool:
        """As failed, for what says by itself that no call will succeed: one such answer is enough."""
        if began < self._changed_at:
            return False
        pause = REFUSED_PAUSE_SECONDS if self.probes_at is None else max(REFUSED_PAUSE_SECONDS, self._pause * 2)
        self._open(now, min(MAX_REFUSED_PAUSE_SECONDS, pause))
        return True

    def abandoned(self) -> None:
        """A call ended without a word of the provider, as when its job was cancelled: another may be the probe."""
        self._probing = False

    def _failing(self, now: float) -> bool:
        fresh = [succeeded for at, succeeded in self._recent if now - at < SAMPLE_SECONDS]
        return len(fresh) == SAMPLE and fresh.count(False) >= SAMPLE * FAILING_SHARE

    def _open(self, now: float, pause: float) -> None:
        self._pause = pause
        self._changed_at = now
        self._probing = False
        # Processes that found out together do not probe together.
        self.probes_at = now + pause * random.uniform(1 - JITTER, 1 + JITTER)

    def _close(self, now: float) -> None:
        self._changed_at = now
        self._probing = False
        self._in_a_row = 0
        self._recent.clear()
        self.probes_at = None
