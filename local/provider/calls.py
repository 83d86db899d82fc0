"""What was called, how often, and how it ended.

Bounded memory: each tally remembers at most MAX_DISTINCT keys (measured with all three full: 101 MB of bodies, 58 MB
of successes, 150 MB of job names of 36 characters). Calls past the bound are counted as untracked, so a test that
proves "each exactly once" can see when it no longer proves it.
"""

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

MAX_DISTINCT = 1_000_000
MAX_JOB_CHARACTERS = 128
MAX_LISTED = 10_000
DIGEST_BYTES = 16

Key = TypeVar("Key", bytes, str)


class Tally(Generic[Key]):
    """How often each key was counted."""

    def __init__(self, max_distinct: int) -> None:
        self._max_distinct = max_distinct
        self._counts: dict[Key, int] = {}
        self.untracked = 0

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, key: Key) -> int:
        """How often this key has now been counted; 0 when there is no room to know."""
        counts = self._counts
        now = counts.get(key, 0) + 1
        if now == 1 and len(counts) >= self._max_distinct:
            self.untracked += 1
            return 0
        counts[key] = now
        return now

    def of(self, key: Key) -> int:
        return self._counts.get(key, 0)

    def starting_with(self, prefix: Key) -> int:
        """The sum over all keys with this prefix, by looking at each."""
        return sum(number for key, number in self._counts.items() if key.startswith(prefix))

    def histogram(self) -> dict[str, int]:
        """How many keys were counted once, twice, ... A million keys take about 60 ms."""
        return {str(times): keys for times, keys in sorted(Counter(self._counts.values()).items())}

    def repeated(self) -> dict[Key, int]:
        """The keys counted more than once, at most MAX_LISTED of them."""
        found: dict[Key, int] = {}
        for key, number in self._counts.items():
            if number > 1:
                found[key] = number
                if len(found) == MAX_LISTED:
                    break
        return found


@dataclass(slots=True)
class Call:
    """One call: the digest of its body, and how many calls with that body there have been, this one included."""

    digest: bytes
    tries: int


@dataclass(slots=True)
class Usage:
    """Tokens. The cached ones are part of the prompt's."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


class Calls:
    """The counts since the process started or was last reset."""

    def __init__(self, max_distinct: int = MAX_DISTINCT) -> None:
        self._max_distinct = max_distinct
        self.in_flight = 0
        self._open: Counter[bytes] = Counter()
        self.reset()

    def reset(self) -> None:
        """Start again at nothing. The calls in flight stay in flight, and count as started before."""
        self._bodies: Tally[bytes] = Tally(self._max_distinct)
        self._successes: Tally[bytes] = Tally(self._max_distinct)
        self._jobs: Tally[str] = Tally(self._max_distinct)
        self._statuses: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._usage = Usage()
        self._started = self._finished = self._abandoned = 0
        self._max_in_flight = self.in_flight

    def begin(self, body: bytes) -> Call:
        self._started += 1
        self.in_flight += 1
        if self.in_flight > self._max_in_flight:
            self._max_in_flight = self.in_flight
        digest = sha256(body).digest()[:DIGEST_BYTES]
        self._open[digest] += 1
        return Call(digest, self._bodies.count(digest))

    def names_job(self, job: object) -> None:
        """A call said which job it is for. What is no string, or a long one, is not tracked."""
        if isinstance(job, str) and len(job) <= MAX_JOB_CHARACTERS:
            self._jobs.count(job)
        elif job is not None:
            self._jobs.untracked += 1

    def meets(self, fault: str) -> None:
        self._faults[fault] += 1

    def end(self, call: Call, status: int, whole: bool, usage: Usage | None) -> None:
        """The answer was written whole, or the connection was gone before. Usage comes with a success, nothing else."""
        self.in_flight -= 1
        if self._open[call.digest] > 1:
            self._open[call.digest] -= 1
        else:
            del self._open[call.digest]
        if not whole:
            self._abandoned += 1
            return
        self._finished += 1
        self._statuses[status] += 1
        if usage is not None:
            self._successes.count(call.digest)
            total = self._usage
            total.prompt += usage.prompt
            total.cached += usage.cached
            total.completion += usage.completion

    def summary(self) -> dict[str, Any]:
        return {
            "calls": self._started,
            "started": self._started,
            "finished": self._finished,
            "abandoned": self._abandoned,
            "in_flight": self.in_flight,
            "max_in_flight": self._max_in_flight,
            "distinct_bodies": len(self._bodies),
            "distinct_jobs": len(self._jobs),
            "calls_per_body": self._bodies.histogram(),
            "successes_per_body": self._successes.histogram(),
            "calls_per_job": self._jobs.histogram(),
            "by_status": {str(status): number for status, number in sorted(self._statuses.items())},
            "by_fault": dict(sorted(self._faults.items())),
            "usage": {
                "prompt_tokens": self._usage.prompt,
                "cached_tokens": self._usage.cached,
                "completion_tokens": self._usage.completion,
            },
            "untracked": self._bodies.untracked + self._jobs.untracked,
        }

    def of_body(self, sha256_hex: str) -> dict[str, Any]:
        """Calls of the body whose sha256 starts with these hex digits. Raises ValueError when they are none."""
        prefix = bytes.fromhex(sha256_hex)[:DIGEST_BYTES]
        look_up = "of" if len(prefix) == DIGEST_BYTES else "starting_with"
        calls, successes = (getattr(tally, look_up)(prefix) for tally in (self._bodies, self._successes))
        in_flight = sum(number for digest, number in self._open.items() if digest.startswith(prefix))
        return {"hash": sha256_hex, "calls": calls, "successes": successes, "in_flight": in_flight}

    def of_job(self, job: str) -> dict[str, Any]:
        return {"job": job, "calls": self._jobs.of(job)}

    def repeated(self) -> dict[str, Any]:
        bodies, successes = (
            {digest.hex(): number for digest, number in tally.repeated().items()}
            for tally in (self._bodies, self._successes)
        )
        return {"bodies": bodies, "successes": successes, "jobs": self._jobs.repeated()}
