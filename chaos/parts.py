"""What the customers submit: every job once, cut into CSV and JSONL files, inline batches and single jobs."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chaos.sizes import Sizes

Kind = Literal["csv", "jsonl", "inline", "single"]

PLANS = ("free", "free", "pro", "pro", "team", "team")  # of the accounts
MODEL = "sim"
ENDPOINT = "/v1/chat/completions"
PROMPT = "Describe {{name}} in a few words."
MAX_TOKENS = 60
# The share of all jobs that comes in each kind, and the rows of one submission.
KINDS: tuple[tuple[Kind, float, int], ...] = (
    ("csv", 0.3, 500),
    ("jsonl", 0.4, 800),
    ("inline", 0.2, 100),
    ("single", 0.1, 1),
)
MARK = "thing-([0-9]+)"  # as PostgreSQL finds a job's number in its body


@dataclass(frozen=True, slots=True)
class Part:
    """One submission: its jobs by their numbers. No two jobs of a run have the same body."""

    kind: Kind
    account: int
    numbers: Sequence[int]

    def key(self, seed: int) -> str:
        """The idempotency key of its request."""
        return f"chaos-{seed}-{self.numbers[0]}"

    def rows(self) -> bytes:
        return b"name\n" + b"".join(b"thing-%d\n" % number for number in self.numbers)

    def lines(self) -> bytes:
        shape = {"method": "POST", "url": ENDPOINT}
        return b"".join(json.dumps(request | shape).encode() + b"\n" for request in self.requests())

    def requests(self) -> list[dict[str, Any]]:
        return [{"custom_id": f"thing-{number}", "body": body(number)} for number in self.numbers]


def body(number: int) -> dict[str, Any]:
    prompt = PROMPT.replace("{{name}}", f"thing-{number}")
    return {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": prompt}]}


def parts(sizes: Sizes) -> list[Part]:
    """All jobs of the run in the order in which they are submitted, mixed over kinds and accounts."""
    drawn = random.Random(sizes.seed)
    found: list[Part] = []
    first = 0
    for at, (kind, share, rows) in enumerate(KINDS):
        end = sizes.jobs if at == len(KINDS) - 1 else first + round(sizes.jobs * share)
        # A small run has submissions of every kind from every account, too.
        rows = max(1, min(rows, (end - first) // len(PLANS)))
        for start in range(first, end, rows):
            found.append(Part(kind, len(found) % len(PLANS), range(start, min(start + rows, end))))
        first = end
    drawn.shuffle(found)
    return found
