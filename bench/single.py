"""One job at a time through an idle stack with a model that answers at once: what Batchyard itself takes, and where."""

import http.client
import json
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bench.figures import Figure, milliseconds, percentile
from bench.rig import Rig, scaled, started

JOBS = 200
WARM_UP_JOBS = 30
WAIT_SECONDS = 10
ASKED_BELOW_MS = 25
# To accept, to claim and to record a job are a transaction each.
COMMITS = 3


@dataclass(frozen=True, slots=True)
class Timed:
    """When things happened to one job, in seconds since 1970: all clocks are this machine's."""

    sent: float
    accepted: float
    claimed: float
    called: float
    finished: float
    stored: float
    answered: float


def single() -> list[Figure]:
    with started(workers=1) as rig, closing(http.client.HTTPConnection("127.0.0.1", rig.stack.port)) as connection:
        for number in range(WARM_UP_JOBS):
            _run(rig, connection, number)
        rig.wait_idle()
        jobs = [_run(rig, connection, WARM_UP_JOBS + number) for number in range(scaled(JOBS))]
        rig.wait_idle()
        commits = [_bare_commits(rig) for _ in jobs]
    whole = [job.stored - job.sent for job in jobs]
    answered = [job.answered - job.sent for job in jobs]
    parts = {
        "accept: sent to its transaction begun": [job.accepted - job.sent for job in jobs],
        "queue: stored, committed, ticket taken, claimed": [job.claimed - job.accepted for job in jobs],
        "start: claim committed, call begun": [job.called - job.claimed for job in jobs],
        "call: begun to finished": [job.finished - job.called for job in jobs],
        "record: call finished, result committed": [job.stored - job.finished for job in jobs],
        "answer: result committed, read by the caller": [job.answered - job.stored for job in jobs],
    }
    return [
        Figure(
            "single: submit to stored, median",
            milliseconds(whole),
            "ms",
            baseline=milliseconds(commits),
            value_below=ASKED_BELOW_MS,
        ),
        Figure("single: the same, p95", percentile(whole, 0.95) * 1000, "ms", note="baseline above: 3 bare commits"),
        Figure("single: submit to answered, median", milliseconds(answered), "ms"),
        Figure("single: the same, p95", percentile(answered, 0.95) * 1000, "ms"),
        *(Figure(f"single: {name}", milliseconds(seconds), "ms", note="median") for name, seconds in parts.items()),
    ]


def _run(rig: Rig, connection: http.client.HTTPConnection, number: int) -> Timed:
    """Submits a job and waits for its answer, which comes after its result is committed."""
    body = json.dumps({"model": "sim", "prompt": f"Say hello to customer {number}."}).encode()
    headers = {**rig.authorization, "Content-Type": "application/json", "Prefer": f"wait={WAIT_SECONDS}"}
    sent = time.time()
    connection.request("POST", "/v1/jobs", body, headers)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    answered = time.time()
    if response.status != 200 or answer["status"] != "completed":
        raise RuntimeError(f"the job did not end in {WAIT_SECONDS} s: {response.status} {answer}")
    return _timed(rig, UUID(answer["id"].removeprefix("job_")), sent, answered)


def _timed(rig: Rig, batch_id: UUID, sent: float, answered: float) -> Timed:
    moments = rig.database.execute(
        "SELECT b.created_at, b.started_at AS claimed_at, r.started_at, r.finished_at,"
        " pg_xact_commit_timestamp(r.xmin) AS stored_at"
        " FROM batches b JOIN results r ON r.batch_id = b.id WHERE b.id = %s",
        [batch_id],
    ).fetchone()
    assert moments is not None
    created, claimed, called, finished, stored = (moment.timestamp() for moment in moments.values())
    return Timed(sent, created, claimed, called, finished, stored, answered)


def _bare_commits(rig: Rig) -> float:
    """Seconds that PostgreSQL takes to insert a row and make it durable, as often as a job needs that."""
    rig.database.execute("CREATE TABLE IF NOT EXISTS bare_commits (number serial PRIMARY KEY)")
    began = time.perf_counter()
    for _ in range(COMMITS):
        rig.database.execute("INSERT INTO bare_commits DEFAULT VALUES")
    return time.perf_counter() - began
