"""What is done to a running stack, and what was exposed by it: calls that may have to be made again."""

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from chaos.rig import Rig, digest
from chaos.sizes import Sizes
from local.process import Process

# Disturbances lie in this part of the work, so that each meets a stack with work to do.
FIRST_SHARE, LAST_SHARE = 0.02, 0.95


@dataclass(slots=True)
class Exposed:
    """What the killed workers had in hand: the hashes of the rows that they held without a result, and how many calls
    were in flight, or answered and not yet recorded, summed over the kills."""

    bodies: set[str] = field(default_factory=set)
    calls: int = 0


class Disturbances:
    """Each comes once the work has reached its share, in an order drawn from the seed. `step` is called all the time,
    and does no more than one of them."""

    def __init__(self, rig: Rig, sizes: Sizes) -> None:
        self.exposed = Exposed()
        self.done: dict[str, int] = {}
        self._rig = rig
        # Apart from what the parts are drawn from, so that other jobs do not change what is killed.
        self._drawn = random.Random(f"disturbances {sizes.seed}")
        wanted: list[tuple[str, Callable[[], bool], int]] = [
            ("worker killed", self._kill_worker, sizes.worker_kills),
            ("web killed", self._kill_web, sizes.web_kills),
            ("deliverer killed", self._kill_deliverer, sizes.deliverer_kills),
            ("Redis emptied", self._empty_redis, sizes.redis_flushes),
            ("Redis killed", self._kill_redis, sizes.redis_kills),
            ("PostgreSQL killed", self._crash_postgres, sizes.postgres_crashes),
            ("PostgreSQL restarted", self._restart_postgres, sizes.postgres_restarts),
        ]
        acts = [(name, act) for name, act, times in wanted for _ in range(times)]
        self._drawn.shuffle(acts)
        shares = sorted(self._drawn.uniform(FIRST_SHARE, LAST_SHARE) for _ in acts)
        self._waiting = list(zip(shares, acts, strict=True))

    @property
    def left(self) -> int:
        return len(self._waiting)

    def step(self, share: float) -> str | None:
        """Does the next disturbance, if the work has come so far and it can be done now. Returns what it was."""
        if not self._waiting or share < self._waiting[0][0]:
            return None
        name, act = self._waiting[0][1]
        if not act():
            return None
        del self._waiting[0]
        self.done[name] = self.done.get(name, 0) + 1
        return name

    def _kill_worker(self) -> bool:
        """It stands still while it is looked at what it has in hand; PostgreSQL and the provider go on meanwhile."""
        serving = [worker for worker in self._rig.workers() if self._rig.serves(worker)]
        if not serving or not self._rig.postgres_answers():
            return False
        worker = self._drawn.choice(serving)
        worker.send(signal.SIGSTOP)
        held = self._rig.query(_HELD, worker=f"%-{worker.pid}-%")
        self.exposed.bodies |= {digest(body) for (body,) in held}
        self.exposed.calls += sum(self._rig.is_exposed(body) for (body,) in held)
        return _killed(worker)

    def _kill_web(self) -> bool:
        """The gunicorn that leads, or one of the processes that serve."""
        leader = self._rig.stack.processes["web"]
        if not leader.running:
            return False
        children = psutil.Process(leader.pid).children()
        if not children or self._drawn.random() < 0.5:
            return _killed(leader)
        self._drawn.choice(children).kill()
        return True

    def _kill_deliverer(self) -> bool:
        """What it was telling Stripe is told again after its lease, under the same identifiers. Nobody else was telling
        anything, so that the lease need not be waited for."""
        if not self._rig.postgres_answers() or not _killed(self._rig.stack.processes["deliverer-1"]):
            return False
        self._rig.query(_END_LEASES)
        return True

    def _empty_redis(self) -> bool:
        if not self._rig.redis_answers():
            return False
        with self._rig.redis() as connection:
            connection.flushall()
        return True

    def _kill_redis(self) -> bool:
        return _killed(self._rig.stack.processes["redis"])

    def _crash_postgres(self) -> bool:
        return self._rig.postgres_answers() and _killed(self._rig.stack.processes["postgres"])

    def _restart_postgres(self) -> bool:
        """A fast stop; the supervisor starts it again."""
        if not self._rig.postgres_answers():
            return False
        self._rig.stack.processes["postgres"].send(signal.SIGINT)
        return True


def _killed(process: Process) -> bool:
    if not process.running:
        return False
    process.send(signal.SIGKILL)
    return process.wait(10)


_END_LEASES = "UPDATE meter_outbox SET lease_until = now() WHERE state = 'sending' RETURNING identifier"

_HELD = """
    SELECT j.body FROM claims c JOIN jobs j ON j.batch_id = c.batch_id AND j.seq >= c.first_seq AND j.seq < c.end_seq
    WHERE c.state = 'leased' AND c.worker LIKE %(worker)s
        AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.seq = j.seq)
"""
