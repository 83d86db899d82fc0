"""For how long a run could not work, by no fault of the product's: what is taken off its time."""

import time

from chaos.rig import Rig


class Outages:
    """Seconds in which PostgreSQL or Redis was down, and of each worker's absence its share of all workers.

    A service is down until it answers, a worker until it listens for work. What the product makes of an outage (leases
    that run out, pauses before it tries again) is its own, and so is the time in which web is down.
    """

    def __init__(self, rig: Rig) -> None:
        self.seconds = 0.0
        self._rig = rig
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Counts the time since the last look. Call it many times a second."""
        now = time.monotonic()
        elapsed, self._looked_at = now - self._looked_at, now
        if not (self._rig.postgres_answers() and self._rig.redis_answers()):
            self.seconds += elapsed
            return
        workers = self._rig.workers()
        away = sum(not self._rig.serves(worker) for worker in workers)
        self.seconds += elapsed * away / len(workers)
