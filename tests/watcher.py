"""A customer with a batch that services and processes die under, and the operator's and the provider's view of it."""

import signal
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg

from local.process import Process
from local.stack import Stack
from tests.customer import Customer, answer
from tests.waiting import wait_for

ROWS = 360
MODEL = "sim-latency-500ms"
# Longer than a lease, a sweep and the work left.
LONGEST_SECONDS = 90


class Watcher(Customer):
    """A customer's program, with the operator's psql and the provider's settings beside it."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack.base_url, stack.env["API_KEY"])
        self._provider = stack.env["PROVIDER_URL"].removesuffix("/v1")
        self._database_url = stack.env["DATABASE_URL"]

    def begin(self, model: str = MODEL) -> str:
        """The id of an accepted batch of ROWS rows. It is sent again while the database is away, as it is once to each
        connection that a restart has closed."""
        content = ("name\n" + "".join(f"row {number}\n" for number in range(ROWS))).encode()
        sent = wait_for(
            lambda: self.upload(content, model=model, prompt="Greet {{name}}."),
            lambda response: response.status_code != 503,
        )
        return str(answer(sent)["id"])

    def begin_job(self, model: str = MODEL) -> str:
        """The id of an accepted job, as begin."""
        sent = wait_for(
            lambda: self.post("/v1/jobs", {"model": model, "prompt": "Hello"}),
            lambda response: response.status_code != 503,
        )
        return str(answer(sent)["id"])

    def act(self, batch_id: str, verb: str) -> dict[str, Any]:
        """Cancels or retries a batch."""
        return answer(self.post(f"/v1/batches/{batch_id}/{verb}"))

    def wait_for(self, batch_id: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return wait_for(lambda: self.batch(batch_id), reached, LONGEST_SECONDS)

    def query(self, sql: str, batch_id: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._database_url) as connection:
            return connection.execute(sql, {"batch_id": UUID(batch_id.removeprefix("batch_"))}).fetchall()

    def set_provider(self, settings: dict[str, Any]) -> None:
        self.http.put(f"{self._provider}/_sim/settings", json=settings).raise_for_status()

    def reset_provider(self) -> None:
        self.set_provider({})
        self.http.post(f"{self._provider}/_sim/reset").raise_for_status()

    def wait_for_hanging_calls(self, calls: int) -> None:
        def hanging() -> int:
            return int(self.calls()["by_fault"].get("hang", 0))

        wait_for(hanging, lambda found: found >= calls, LONGEST_SECONDS)

    def calls(self) -> dict[str, Any]:
        """What the provider counted."""
        found: dict[str, Any] = self.http.get(f"{self._provider}/_sim/calls").json()
        return found

    def repeated_calls(self) -> dict[str, int]:
        bodies = self.http.get(f"{self._provider}/_sim/repeated").json()["bodies"]
        return {str(digest): int(calls) for digest, calls in bodies.items()}

    def assert_every_row_ended_once(self, batch_id: str) -> None:
        rows = [(row["name"], row["status"]) for row in self.results(batch_id)[1]]
        assert rows == [(f"row {number}", "succeeded") for number in range(ROWS)]
        counted = self.query(
            "SELECT (SELECT count(*) FROM results WHERE batch_id = %(batch_id)s),"
            " (SELECT count(*) FROM usage_records WHERE batch_id = %(batch_id)s)",
            batch_id,
        )
        assert counted == [(ROWS, ROWS)]
        sums = self.query(
            "SELECT b.prompt_tokens = sum(u.prompt_tokens), b.completion_tokens = sum(u.completion_tokens),"
            " b.cost = sum(u.cost) FROM batches b JOIN usage_records u ON u.batch_id = b.id"
            " WHERE b.id = %(batch_id)s GROUP BY b.id",
            batch_id,
        )
        assert sums == [(True, True, True)]
        assert self.query("SELECT id FROM claims WHERE batch_id = %(batch_id)s", batch_id) == []


def kill(worker: Process) -> None:
    worker.send(signal.SIGKILL)
    assert worker.wait(10)


def part_done(batch: dict[str, Any]) -> bool:
    return bool(batch["counts"]["succeeded"] >= ROWS // 5)


def completed(batch: dict[str, Any]) -> bool:
    return bool(batch["status"] == "completed")
