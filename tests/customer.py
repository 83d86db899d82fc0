"""A customer's program: what it sends to the API, and how it reads what comes back."""

import csv
import io
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx2
from werkzeug.datastructures import Headers

from tests.waiting import wait_for

ENDED_JOB = frozenset({"completed", "failed", "cancelled", "expired"})
ENDED_BATCH = frozenset({"completed", "failed", "cancelled", "expired"})
OF_A_FILE = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


class Customer:
    """Speaks to a running Batchyard over HTTP with one API key."""

    def __init__(self, base_url: str, key: str) -> None:
        self.key = key
        headers = {"Authorization": f"Bearer {key}"}
        # A proxy named in the environment has no business between a test and its server.
        self.http = httpx2.Client(base_url=base_url, headers=headers, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.http.close()

    def post(self, path: str, json: Any = None, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self.http.post(path, json=json, headers=headers)

    def get(self, path: str, **params: str | int) -> httpx2.Response:
        return self.http.get(path, params=params)

    def submit(self, sent: dict[str, Any], wait: int | None = None) -> dict[str, Any]:
        """An accepted job; finished when `wait` seconds were enough."""
        response = self.post("/v1/jobs", sent, {"Prefer": f"wait={wait}"} if wait is not None else None)
        assert response.status_code in (200, 202), response.text
        return answer(response)

    def job(self, job_id: str) -> dict[str, Any]:
        return answer(self.get(f"/v1/jobs/{job_id}"))

    def ended_job(self, job_id: str, seconds: float = 30) -> dict[str, Any]:
        return wait_for(lambda: self.job(job_id), lambda job: job["status"] in ENDED_JOB, seconds)

    def upload(self, content: bytes, filename: str = "rows.csv", **fields: str) -> httpx2.Response:
        """Sends a CSV; model and prompt have a default."""
        form = {"model": "sim", "prompt": "About {{text}}"} | fields
        return self.http.post("/v1/batches", data=form, files={"file": (filename, content, "text/csv")})

    def create_batch(self, content: bytes, **fields: str) -> dict[str, Any]:
        """An accepted batch."""
        response = self.upload(content, **fields)
        assert response.status_code == 202, response.text
        return answer(response)

    def send_file(self, content: bytes, filename: str = "requests.jsonl", purpose: str = "batch") -> httpx2.Response:
        return self.http.post("/v1/files", data={"purpose": purpose}, files={"file": (filename, content)})

    def file_id(self, content: bytes) -> str:
        """The id of an uploaded batch file."""
        return str(answer(self.send_file(content))["id"])

    def run_file(self, file_id: str, **options: str) -> dict[str, Any]:
        """An accepted batch of chat completions, unless another endpoint is given."""
        return answer(self.post("/v1/batches", OF_A_FILE | {"input_file_id": file_id} | options))

    def batch(self, batch_id: str) -> dict[str, Any]:
        return answer(self.get(f"/v1/batches/{batch_id}"))

    def ended_batch(self, batch_id: str, seconds: float = 30) -> dict[str, Any]:
        return wait_for(lambda: self.batch(batch_id), lambda batch: batch["status"] in ENDED_BATCH, seconds)

    def results(self, batch_id: str) -> tuple[list[str], list[dict[str, str]]]:
        """The result CSV as its header and its rows."""
        response = self.get(f"/v1/batches/{batch_id}/results", format="csv")
        assert response.status_code == 200, response.text
        rows = csv.reader(io.StringIO(response.content.decode(), newline=""))
        header = next(rows)
        return header, [dict(zip(header, row, strict=True)) for row in rows]


def batch_uuid(batch: dict[str, Any]) -> UUID:
    """A batch's id as the database has it."""
    return UUID(batch["id"].removeprefix("batch_"))


def answer(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object of an answer that is no error."""
    assert response.status_code < 300, response.text
    found: dict[str, Any] = response.json()
    return found


def refusal(response: httpx2.Response, status: int) -> dict[str, Any]:
    """The error of a refused request, after checking that it has the one shape that every error has."""
    assert response.status_code == status, response.text
    return error_in(response.headers, response.json())


def error_in(headers: Mapping[str, str] | Headers, body: dict[str, Any]) -> dict[str, Any]:
    """The error of such an answer."""
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["type"].endswith("_error")
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    return error
