"""How many calls may be in flight to one provider: it grows while they succeed, and shrinks when there are too many.

Additive increase and multiplicative decrease, as TCP does it (RFC 5681), with two changes: calls that were under way
when the window shrank say nothing new, so that a wave of refusals counts once; and the size at which it happened is
remembered, to come back quickly to just below it."""

SHRINK = 0.7
# Below this share of the remembered ceiling the window grows by one for each success, above it by one for each
# windowful.
QUICK_SHARE = 0.9
RESTART_SHARE = 1 / 8
# Of the calls of one windowful that were refused, from how many on and which share there are too many in flight.
REFUSALS = 3
REFUSED_SHARE = 0.03


class Window:
    """Times are of one monotonic clock, in seconds. `most` is never passed."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._size = float(most)
        self._ceiling = float(most)
        self._shrunk_at = float("-inf")
        self._ended = 0
        self._refused = 0

    @property
    def size(self) -> int:
        return max(1, int(self._size))

    def succeeded(self, in_flight: int) -> None:
        self._count()
        if in_flight * 2 < self._size:
            # Nobody wanted more: that this one succeeded says nothing about a larger window.
            return
        quick = self._size < self._ceiling * QUICK_SHARE
        self._size = min(self._most, self._size + (1 if quick else 1 / self._size))
        self._ceiling = max(self._ceiling, self._size)

    def congested(self, began: float, in_flight: int, now: float) -> bool:
        """A call that began then was refused for there being too many, or was not answered in time. Whether this shrank
        the window."""
        if began < self._shrunk_at:
            return False
        self._count()
        self._refused += 1
        if self._refused < max(min(REFUSALS, self._size), self._ended * REFUSED_SHARE):
            return False
        self._ceiling = min(self._size, float(max(1, in_flight)))
        self._size = max(1.0, self._ceiling * SHRINK)
        self._shrunk_at = now
        self._ended = self._refused = 0
        return True

    def restart(self) -> None:
        """After an outage: from a small part, quickly back to what was possible before it."""
        self._size = max(1.0, self._ceiling * RESTART_SHARE)

    def _count(self) -> None:
        if self._ended >= max(self._size, REFUSALS / REFUSED_SHARE):
            self._ended = self._refused = 0
        self._ended += 1
