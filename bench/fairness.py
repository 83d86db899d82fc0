"""What one account's work costs another's: a small batch beside 200,000 rows, single jobs beside them, and the share of
a free account among saturated ones. docs/fairness.md says where the bounds come from."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any
from uuid import UUID

import httpx2

from bench.figures import Figure
from bench.reviews import reviews_csv
from bench.rig import POLL_SECONDS, Rig, scaled, started, tell

MODEL = "sim-latency-500ms"
# Calls so long that a process is full for many seconds on end.
SLOW_MODEL = "sim-latency-10000ms"
CONCURRENCY = 256
BUSY_ROWS = 200_000
SMALL_ROWS = 100
SLOW_ROWS = 2_000
RUNS = 3
SINGLES = 5
# All begin at once; the shares are counted between two moments at which all are long under way.
SETTLE_SECONDS = 5.0
SHARE_SECONDS = 30.0


def fairness() -> list[Figure]:
    with started(workers=1, WORKER_CONCURRENCY=str(CONCURRENCY)) as rig:
        busy, free, pro = (rig.stack.env[name] for name in ("TEAM_API_KEY", "FREE_API_KEY", "API_KEY"))
        small = _account_beside(rig)
        rig.wait_for(rig.submit(reviews_csv(2 * CONCURRENCY), MODEL), "completed")
        rig.wait_idle()
        alone = [_seconds(rig, small) for _ in range(RUNS)]
        large = rig.submit(reviews_csv(scaled(BUSY_ROWS)), MODEL, busy)
        _wait_until(lambda: _ended(rig, large) > CONCURRENCY)
        beside = [_seconds(rig, small) for _ in range(RUNS)]
        starts = [_start_of_single(rig, busy) for _ in range(SINGLES)]
        share = _share_of_free(rig, large, pro, free)
        slow_starts = _starts_while_calls_take_long(rig, large, busy)
    tell(f"  alone {_shown(alone)} s; beside {_shown(beside)} s; starts {_shown(starts)} s, {_shown(slow_starts)} s")
    return [
        Figure(
            f"fairness: {SMALL_ROWS} rows beside {scaled(BUSY_ROWS):,} of another account, against an idle stack",
            median(beside),
            "s",
            baseline=median(alone),
            ratio_at_most=3,
        ),
        Figure("fairness: single job of the busy account, submit to start, longest", max(starts), "s", value_below=2),
        Figure("fairness: the same while calls take 10 s, longest", max(slow_starts), "s", value_below=2),
        Figure("fairness: a free account's calls beside pro and team", share * 100, "%", value_at_least=8),
    ]


def _shown(seconds: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in seconds)


def _account_beside(rig: Rig) -> str:
    """The key of another account on the busy account's plan."""
    headers = {"Authorization": f"Bearer {rig.stack.env['ADMIN_API_KEY']}"}
    account = _sent(rig.client.post("/v1/admin/accounts", json={"name": "Small", "plan": "team"}, headers=headers))
    path = f"/v1/admin/accounts/{account['id']}/api_keys"
    sent = {"name": "fairness", "scopes": ["jobs", "batches", "files"]}
    return str(_sent(rig.client.post(path, json=sent, headers=headers))["key"])


def _sent(response: httpx2.Response) -> dict[str, Any]:
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer


def _wait_until(reached: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s")
        # Between two looks.
        time.sleep(POLL_SECONDS)


def _seconds(rig: Rig, key: str) -> float:
    """How long a small batch takes, from its acceptance to its last result."""
    batch = rig.wait_for(rig.submit(reviews_csv(SMALL_ROWS), MODEL, key), "completed")
    seconds: float = (batch["ended_at"] - batch["created_at"]).total_seconds()
    return seconds


def _start_of_single(rig: Rig, key: str) -> float:
    """Seconds from the acceptance of a single job to its call."""
    headers = {"Authorization": f"Bearer {key}"}
    sent = {"model": MODEL, "prompt": "Say hello."}
    job = _sent(rig.client.post("/v1/jobs", json=sent, headers=headers))

    def ended() -> bool:
        job.update(_sent(rig.client.get(f"/v1/jobs/{job['id']}", headers=headers)))
        return bool(job["status"] == "completed")

    _wait_until(ended)
    return float(job["started_at"] - job["created_at"])


def _share_of_free(rig: Rig, large: UUID, pro: str, free: str) -> float:
    """The free account's part of the rows that ended while all three plans had more than could run."""
    batch_ids = [
        large,
        rig.submit(reviews_csv(scaled(40_000)), MODEL, pro),
        rig.submit(reviews_csv(scaled(10_000)), MODEL, free),
    ]
    _wait_until(lambda: all(_ended(rig, batch_id) > 0 for batch_id in batch_ids))
    # Until the rows that were claimed before the others came have gone through.
    time.sleep(SETTLE_SECONDS)
    before = [_ended(rig, batch_id) for batch_id in batch_ids]
    # The time over which the shares are counted.
    time.sleep(SHARE_SECONDS)
    ended = [_ended(rig, batch_id) - count for batch_id, count in zip(batch_ids, before, strict=True)]
    tell(f"  rows ended of team, pro and free: {ended}")
    for batch_id, key in zip(batch_ids[1:], (pro, free), strict=True):
        if rig.batch(batch_id)["state"] != "in_progress":
            raise RuntimeError("an account ran out of rows: the share shows nothing")
        rig.cancel(batch_id, key)
    return ended[2] / sum(ended)


def _starts_while_calls_take_long(rig: Rig, large: UUID, busy: str) -> list[float]:
    """Of single jobs, while calls of 10 s fill the process."""
    rig.cancel(large, busy)
    slow = rig.submit(reviews_csv(SLOW_ROWS), SLOW_MODEL, busy)
    _wait_until(lambda: _leased(rig, slow) > CONCURRENCY)
    starts = [_start_of_single(rig, busy) for _ in range(SINGLES)]
    rig.cancel(slow, busy)
    return starts


def _ended(rig: Rig, batch_id: UUID) -> int:
    row = rig.database.execute("SELECT succeeded + failed AS ended FROM batches WHERE id = %s", [batch_id]).fetchone()
    return int(row["ended"]) if row is not None else 0


def _leased(rig: Rig, batch_id: UUID) -> int:
    query = "SELECT coalesce(sum(pending), 0) AS rows FROM claims WHERE batch_id = %s AND state = 'leased'"
    row = rig.database.execute(query, [batch_id]).fetchone()
    return int(row["rows"]) if row is not None else 0
