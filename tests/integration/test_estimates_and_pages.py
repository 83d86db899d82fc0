"""What a batch would be, told without making it; and the pages of what it became."""

import io
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import psycopg

from common import files, ids, queue
from common.prices import price_of
from tests import work
from tests.waiting import Stopwatch
from tests.web_client import WebClient
from tests.work import all_claims
from worker.outcomes import record

CHAT = "/v1/chat/completions"


def request(number: int, model: str = "gpt-4o-mini", **fields: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello there " * 10}]} | fields
    return {"custom_id": f"row-{number}", "method": "POST", "url": CHAT, "body": body}


def as_lines(sent: list[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in sent)


def estimated(web: WebClient, sent: dict[str, Any]) -> dict[str, Any]:
    found = web.post("/v1/batches/estimate", json={"endpoint": CHAT} | sent)
    assert found.status_code == 200, found.text
    shown: dict[str, Any] = found.get_json()
    return shown


# What a request without a bound of its own has added.
BOUND = ',"max_completion_tokens":4096'


def test_the_same_requests_are_estimated_alike_as_a_file_and_inline_and_cost_what_their_parts_cost(
    web: WebClient,
) -> None:
    sent = [
        request(0, max_tokens=10),
        request(1),
        request(2, "gpt-4o", max_completion_tokens=20, n=2),
        request(3, "sim-x"),
    ]
    file = files.create(web.caller, "a.jsonl", io.BytesIO(as_lines(sent)), None)
    inline = estimated(web, {"requests": sent})
    by_file = estimated(web, {"input_file_id": file.shown_id})
    for found in (inline, by_file):
        assert (found["valid"], found["errors"], found["rows"], found["failing_rows"]) == (True, None, 4, 0)
        assert found["models"] == {"gpt-4o-mini": 2, "gpt-4o": 1, "sim-x": 1}
        outputs = {"gpt-4o-mini": 10 + 4_096, "gpt-4o": 40, "sim-x": 4_096}
        assert found["tokens"]["max_output"] == sum(outputs.values())
        least = most = 0
        unpriced = []
        for model, output in outputs.items():
            rows = [line["body"] for line in sent if line["body"]["model"] == model]
            if (price := price_of(model)) is None:
                unpriced.append(model)
                continue
            separators = (",", ":") if found is inline else None
            lengths = [
                len(json.dumps(row, separators=separators)) + (0 if "max" in str(row) else len(BOUND)) for row in rows
            ]
            prompt = sum(-(-length // 4) for length in lengths)
            least += price.cost(prompt, 0, 0)
            most += price.cost(prompt, 0, output)
        assert (found["cost"]["min"]["nano_usd"], found["cost"]["max"]["nano_usd"]) == (least, most)
        assert found["cost"]["models_without_price"] == sorted(unpriced)


def test_every_bad_line_is_told(web: WebClient) -> None:
    bad: list[Any] = [
        "no object", {"custom_id": "a"}, request(1) | {"custom_id": None}, request(2) | {"custom_id": 7},
        request(3) | {"method": "GET"}, request(4) | {"url": "/v1/embeddings"}, request(5, messages=[]),
        request(6, model=""), request(7, stream=True), request(0),
    ]  # fmt: skip
    sent = as_lines([request(0), *bad]) + b"{\n" + b'{"custom_id": "\xff"}\n'
    file = files.create(web.caller, "a.jsonl", io.BytesIO(sent), None)
    found = estimated(web, {"input_file_id": file.shown_id})
    assert found["valid"] is False
    assert [(error["line"], error["code"]) for error in found["errors"]["data"]] == [
        (2, "invalid_json_line"), (3, "invalid_method"), (4, "missing_custom_id"), (5, "invalid_custom_id"),
        (6, "invalid_method"), (7, "url_mismatch"), (8, "invalid_prompt"), (9, "missing_model"),
        (10, "stream_not_supported"), (11, "duplicate_custom_id"), (12, "invalid_json_line"), (13, "invalid_encoding"),
    ]  # fmt: skip
    assert found["errors"]["total"] == sum(found["errors"]["counts"].values()) == 12
    skipping = estimated(web, {"input_file_id": file.shown_id, "on_error": "skip"})
    assert (skipping["valid"], skipping["rows"], skipping["failing_rows"]) == (True, 1, 12)


def test_a_csv_is_estimated_and_nothing_is_stored_or_queued(
    web: WebClient, database: psycopg.Connection, settings: dict[str, str]
) -> None:
    form = {"model": "gpt-4o-mini", "prompt": "About {{text}}", "max_tokens": "7"}
    content = b'text\na\n""\nb\n'
    for path in ("/v1/batches/estimate", "/batches/estimate"):
        found = web.post(path, data=form | {"prompt": "{{text}}", "file": (io.BytesIO(content), "a.csv")}).get_json()
        assert (found["valid"], found["rows"], found["failing_rows"]) == (True, 2, 1)
        assert found["tokens"]["max_output"] == 14
    estimated(web, {"requests": [request(0), "bad"]})
    for table in ("batches", "files", "jobs", "results", "claims", "usage_records"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
    # What is there counts the requests.
    assert [key for key in queue.redis().scan_iter() if not key.startswith(b"batchyard:window:")] == []
    folder = Path(url2pathname(urlsplit(settings["STORAGE_URL"]).path))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_while_a_long_file_is_estimated_other_requests_are_answered(web: WebClient) -> None:
    file = files.create(web.caller, "a.jsonl", io.BytesIO(as_lines([request(n) for n in range(100_000)])), None)
    done: list[dict[str, Any]] = []
    other = threading.Thread(target=lambda: done.append(estimated(web, {"input_file_id": file.shown_id})))
    other.start()
    slowest = 0.0
    asked = 0
    while other.is_alive():
        asking = Stopwatch()
        assert web.get("/v1/models").status_code == 200
        slowest, asked = max(slowest, asking.seconds), asked + 1
    assert done[0]["rows"] == 100_000
    assert asked > 3
    assert slowest < 1.0


def test_pages_hold_every_row_once_whatever_is_asked_of_them(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.requests(web.caller, [work.request(number) for number in range(25)])
    kinds = ["succeeded", "failed", "succeeded", "cancelled", "expired"]
    for claim in all_claims(5)[:4]:
        record([work.outcome(claim, job.seq, kinds[job.seq % 5]) for job in claim.jobs])
    by_status = {
        "pending": list(range(20, 25)), "succeeded": [n for n in range(20) if n % 5 in (0, 2)],
        "failed": [1, 6, 11, 16], "cancelled": [3, 8, 13, 18], "expired": [4, 9, 14, 19], None: list(range(25)),
    }  # fmt: skip
    path = f"/batches/{ids.show('batch_', batch_id)}/results"
    for status, expected in by_status.items():
        for version, limit in (("/v1", 1), ("", 3), ("/v1", 1_000), ("", len(expected))):
            assert paged(web, version + path, limit, status) == [f"row-{number}" for number in expected]
    assert web.get("/v1" + path, limit=0).get_json() == {
        "object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None,
    }  # fmt: skip
    (row,) = web.get(path, custom_id="row-6").get_json()["data"]
    assert (row["custom_id"], row["status"], row["response"]["status_code"], row["error"]["code"]) == (
        "row-6", "failed", 400, "bad",
    )  # fmt: skip
    assert web.get(path, custom_id="row-6", status="pending").get_json()["data"] == []
    assert web.get(path, custom_id="no").get_json()["data"] == []


def paged(web: WebClient, path: str, limit: int, status: str | None) -> list[str]:
    found: list[str] = []
    query: dict[str, str | int] = {"limit": limit} | ({"status": status} if status else {})
    while True:
        page = web.get(path, **query).get_json()
        assert len(page["data"]) <= limit
        found += [row["custom_id"] for row in page["data"]]
        if not page["has_more"]:
            return found
        query["after"] = page["last_id"]
