"""Taking the next ticket: queues take turns by weight, so that a busy plan cannot starve a quiet one.

RQ itself serves queues in strict order. One Lua script draws and takes instead. A worker that dies right after it loses
the ticket or task, which the sweep adds again, for the work is in PostgreSQL: no list keeps what was taken, and what
RQ knows of it goes by itself.
"""

import random
from collections.abc import Mapping

from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.queue import Queue

TAKEN_TTL_SECONDS = 3_600

# KEYS: queue keys in the order drawn. Takes the first id found, and tells its job.
_TAKE = """
for _, key in ipairs(KEYS) do
    local id = redis.call('LPOP', key)
    if id then
        redis.call('EXPIRE', ARGV[1] .. id, ARGV[2])
        return {key, id, redis.call('HGETALL', ARGV[1] .. id)}
    end
end
return false
"""


# What a turn costs at least, however little was found: the claim itself has a price.
LEAST_TURN = 1 / 16


class WeightedQueues:
    """Serves several RQ queues: of two that are not empty, one of twice the weight gets twice as much.

    By what each has had, divided by its weight, least first: so shares are kept over any few turns, where chance would
    keep them over hundreds. A queue that was empty is not behind the others for that, but by one turn at most.
    """

    def __init__(self, connection: Redis, weights: Mapping[str, float]) -> None:
        self._connection = connection
        self._weights = dict(weights)
        # In turns by weight.
        self._had = dict.fromkeys(weights, 0.0)
        self._queues = {name: Queue(name, connection=connection, serializer="json") for name in weights}
        self._take = connection.register_script(_TAKE)

    def take(self, names: list[str]) -> tuple[Job, Queue] | None:
        """The next RQ job of the named queues, for a whole turn of its queue; None when all are empty."""
        while names:
            # Several processes that begin together must not go on together.
            drawn = sorted(names, key=lambda name: (self._had[name], random.random()))
            keys = [self._queues[name].key for name in drawn]
            found = self._take(keys=keys, args=[Job.redis_job_namespace_prefix, TAKEN_TTL_SECONDS])
            if not found:
                return None
            key, job_id, fields = found[0].decode(), found[1].decode(), found[2]
            queue = next(queue for queue in self._queues.values() if queue.key == key)
            job = Job(job_id, connection=self._connection, serializer=queue.serializer)
            try:
                job.restore(dict(zip(fields[::2], fields[1::2], strict=True)))
                self._count_turn(queue.name)
                return job, queue
            except NoSuchJobError:
                # Its hash expired or was deleted: draw again.
                continue
        return None

    def _count_turn(self, served: str) -> None:
        now = self._had[served]
        for name, weight in self._weights.items():
            self._had[name] = max(self._had[name], now - 1 / weight)
        self._had[served] = now + 1 / self._weights[served]

    def settle(self, name: str, part: float) -> None:
        """Tells how much of its last turn, 0 to 1, the queue could use."""
        self.charge(name, max(LEAST_TURN, part) - 1)

    def charge(self, name: str, part: float) -> None:
        """Counts part of a turn that the queue had without a ticket."""
        self._had[name] += part / self._weights[name]
