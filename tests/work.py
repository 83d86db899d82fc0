"""Accounts with work to claim, and outcomes to record for it, made in the test's process by the product's own verbs."""

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from common import accounts, batches, csv_dialect, jobs, keys
from common.batch_input import CsvInput
from common.batches import Options
from common.endpoints import CHAT
from common.keys import Caller
from common.money import Price
from common.reservations import Reserver
from worker import claims, closing, ingest
from worker.claims import Claim
from worker.outcomes import Outcome, TokenUsage

PRICE = Price(prompt=150_000_000, cached=75_000_000, completion=600_000_000)
USAGE = TokenUsage(prompt_tokens=1_000, cached_tokens=400, completion_tokens=50)
# Of USAGE at PRICE, in nano-dollars: 600 at $0.15, 400 at $0.075 and 50 at $0.60 a million.
COST = 600 * 150 + 400 * 75 + 50 * 600


def caller(plan: str = "pro") -> Caller:
    """A new account's caller."""
    return keys.authenticate(keys.create(accounts.create("Ann", plan).id, "test"))


def key_of(account_id: UUID) -> str:
    """A new key of an account."""
    return keys.create(account_id, "test")


def caller_of(account_id: UUID) -> Caller:
    """An account's caller, with its limits as they are now."""
    return keys.authenticate(key_of(account_id))


def single(of: Caller) -> UUID:
    """A job that waits to be claimed; the id of its batch of one."""
    return jobs.submit(of, "/v1/completions", {"model": "sim", "prompt": "Hi"}, None).batch_id


def upload(
    of: Caller, content: bytes, prompt: str = "{{text}}", *, model: str = "sim", max_cost: int | None = None
) -> UUID:
    """A CSV batch that waits for its input to be read."""
    file = io.BytesIO(content)
    fields = Reserver(CHAT, of.limits).bounded({})
    csv_input = CsvInput(csv_dialect.detect(file), prompt, None, fields)
    return batches.create_from_csv(of, model, csv_input, "rows.csv", file, None, max_cost)


def bulk(of: Caller, rows: int, **options: Any) -> UUID:
    """A batch of so many rows that wait to be claimed."""
    batch_id = upload(of, b"text\n" + b"".join(b"row %d\n" % number for number in range(rows)), **options)
    ingest.ingest(batch_id)
    return batch_id


def request(number: int) -> dict[str, Any]:
    """A request of a batch, as its customer sends it."""
    return {"custom_id": f"row-{number}", "body": {"model": "sim", "messages": [{"role": "user", "content": "Hi"}]}}


def requests(of: Caller, sent: list[Any], **options: Any) -> UUID:
    """A batch of requests that wait to be claimed."""
    batch_id = batches.create_inline(of, Options("inline", "/v1/chat/completions", **options), sent)
    ingest.run(batch_id)
    return batch_id


def take(plan: str = "pro", rows: int = 64, worker: str = "worker A") -> list[Claim]:
    """What a worker would be given to run."""
    return claims.take(plan, rows, worker)[0]


def all_claims(rows: int = 7, plan: str = "pro") -> list[Claim]:
    """All that waits to be claimed."""
    found: list[Claim] = []
    while taken := take(plan, rows):
        found += taken
    return found


def close(batch_id: UUID) -> None:
    """Ends the rows of a stopped batch, as a worker does."""
    closing.close(batch_id)


def outcome(claim: Claim, seq: int, kind: str = "succeeded", **fields: Any) -> Outcome:
    """An outcome of a row of a claim, as a call would give it."""
    now = datetime.now(UTC)
    job = next(job for job in claim.jobs if job.seq == seq)
    succeeded: dict[str, Any] = {
        "status_code": 200, "body": b'{"choices": []}', "error_code": None, "error_message": None,
        "model": "sim", "usage": USAGE, "price": PRICE,
    }  # fmt: skip
    failed: dict[str, Any] = {
        "status_code": 400, "body": b"no", "error_code": "bad", "error_message": "It is bad.",
    }  # fmt: skip
    common: dict[str, Any] = {
        "claim": claim, "job": job, "kind": kind, "attempts": 1, "provider": "test", "request_id": "req_1",
        "started_at": now, "finished_at": now,
    }  # fmt: skip
    return Outcome(**common | (succeeded if kind == "succeeded" else failed) | fields)


def outcomes(claim: Claim, kind: str = "succeeded") -> list[Outcome]:
    """One for each row of a claim."""
    return [outcome(claim, job.seq, kind) for job in claim.jobs]
