"""Batches that do not complete, through the official Python client: what is wrong is said, what finished is there."""

import json
from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from openai import ConflictError, OpenAI
from openai.types import Batch, BatchError

from local.stack import Stack
from tests.sdk.conftest import NewSdk
from tests.sdk.work import (
    CHAT,
    ENDLESS,
    custom_ids,
    ended,
    jsonl,
    lines,
    request,
    submit,
    upload,
    with_completed,
)
from tests.sleeping import workers_asleep
from tests.waiting import wait_for

FINISHED, STOPPED = 5, 20
MODELS = ["sim"] * FINISHED + [ENDLESS] * STOPPED


@pytest.fixture
def half_done(new_sdk: NewSdk) -> Iterator[tuple[OpenAI, Batch]]:
    """A batch of which the first rows are completed and the others never end, and its client."""
    sdk = new_sdk()
    batch = with_completed(sdk, submit(sdk, MODELS), FINISHED)
    yield sdk, batch
    if sdk.batches.retrieve(batch.id).status == "in_progress":
        sdk.batches.cancel(batch.id)


def errors_of(batch: Batch) -> list[BatchError]:
    assert batch.errors is not None
    assert batch.errors.object == "list"
    assert batch.errors.data is not None
    return batch.errors.data


def check_delivered(sdk: OpenAI, batch: Batch, code: str) -> None:
    """What finished is in the output, what did not is in the error file with the reason, and the counts say so."""
    output = lines(sdk, batch.output_file_id)
    assert custom_ids(output) == [f"row-{number}" for number in range(FINISHED)]
    assert {line["response"]["status_code"] for line in output} == {200}
    stopped = lines(sdk, batch.error_file_id)
    assert custom_ids(stopped) == [f"row-{number}" for number in range(FINISHED, FINISHED + STOPPED)]
    for line in stopped:
        assert line["response"] is None
        assert line["error"]["code"] == code
        assert line["error"]["message"]
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed) == (FINISHED + STOPPED, FINISHED)


def test_a_cancelled_batch_delivers_what_finished(half_done: tuple[OpenAI, Batch]) -> None:
    sdk, batch = half_done
    cancelling = sdk.batches.cancel(batch.id)
    assert cancelling.status in ("cancelling", "cancelled")
    assert cancelling.cancelling_at is not None
    cancelled = ended(sdk, batch)
    assert cancelled.status == "cancelled"
    assert cancelled.cancelled_at is not None
    assert cancelled.completed_at is cancelled.expired_at is cancelled.failed_at is None
    check_delivered(sdk, cancelled, "batch_cancelled")


def test_an_expired_batch_delivers_what_finished(
    half_done: tuple[OpenAI, Batch], stack_database: psycopg.Connection
) -> None:
    sdk, batch = half_done
    batch_id = UUID(batch.id.removeprefix("batch_"))
    # The shortest window is an hour.
    stack_database.execute("UPDATE batches SET expires_at = now() WHERE id = %s", [batch_id])
    expired = ended(sdk, batch)
    assert expired.status == "expired"
    assert expired.expired_at is not None
    assert expired.completed_at is expired.cancelled_at is expired.failed_at is None
    check_delivered(sdk, expired, "batch_expired")


def test_rows_that_failed_can_be_run_again_and_then_the_output_is_whole(sdk: OpenAI) -> None:
    batch = ended(sdk, submit(sdk, ["sim", "sim-400-first-1", "sim-404-first-1", "sim"]))
    assert custom_ids(lines(sdk, batch.error_file_id)) == ["row-1", "row-2"]
    again = sdk.post(f"/batches/{batch.id}/retry", cast_to=Batch)
    assert (again.id, again.status) == (batch.id, "in_progress")
    completed = ended(sdk, again)
    assert completed.status == "completed"
    assert completed.error_file_id is None
    assert completed.request_counts is not None
    assert (completed.request_counts.completed, completed.request_counts.failed) == (4, 0)
    assert completed.output_file_id == batch.output_file_id
    assert custom_ids(lines(sdk, completed.output_file_id)) == ["row-0", "row-1", "row-2", "row-3"]


def test_what_a_cancelled_batch_left_can_be_run_after_all(sdk: OpenAI) -> None:
    batch = with_completed(sdk, submit(sdk, ["sim", "sim-latency-8s"]), 1)
    sdk.batches.cancel(batch.id)
    cancelled = ended(sdk, batch)
    assert custom_ids(lines(sdk, cancelled.error_file_id)) == ["row-1"]
    completed = ended(sdk, sdk.post(f"/batches/{batch.id}/retry", cast_to=Batch))
    assert completed.status == "completed"
    assert completed.cancelled_at is None
    assert completed.cancelling_at is None
    assert custom_ids(lines(sdk, completed.output_file_id)) == ["row-0", "row-1"]


def test_cancelling_again_is_a_conflict_that_the_client_does_not_repeat(sdk: OpenAI) -> None:
    batch = ended(sdk, submit(sdk, ["sim"]))
    with pytest.raises(ConflictError) as refused:
        sdk.batches.cancel(batch.id)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "completed" in refused.value.message
    # The client counts its repetitions in what it sends.
    assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_batch_that_is_not_read_yet_is_cancelled_at_once(stack: Stack, sdk: OpenAI) -> None:
    with workers_asleep(stack):
        batch = submit(sdk, ["sim"])
        assert sdk.batches.retrieve(batch.id).status == "validating"
        sdk.batches.cancel(batch.id)
    assert ended(sdk, batch).status == "cancelled"


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in request(1).items() if name != field}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{not JSON", "invalid_json_line"),
        (["a", "list"], "invalid_json_line"),
        (without("custom_id"), "missing_custom_id"),
        (request(1) | {"custom_id": 17}, "invalid_custom_id"),
        (request(0), "duplicate_custom_id"),
        (request(1) | {"method": "GET"}, "invalid_method"),
        (request(1, endpoint="/v1/embeddings"), "url_mismatch"),
        (request(1) | {"body": "text"}, "invalid_body"),
        (request(1) | {"body": {"messages": []}}, "missing_model"),
        (request(1) | {"body": request(1)["body"] | {"stream": True}}, "stream_not_supported"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_a_bad_line_fails_the_batch_with_its_number_and_runs_nothing(sdk: OpenAI, line: object, code: str) -> None:
    second = line.encode() + b"\n" if isinstance(line, str) else jsonl([line])
    file_id = upload(sdk, jsonl([request(0)]) + second + jsonl([request(2)]))
    # Creating it succeeds: a client learns of a bad file from the batch.
    batch = ended(sdk, sdk.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"))
    assert batch.status == "failed"
    assert batch.failed_at is not None
    [error] = errors_of(batch)
    assert (error.code, error.line) == (code, 2)
    assert error.message
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 0
    assert batch.output_file_id is None


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty_file"), (b"\n\n", "empty_file"), (bytes(range(256)) * 64, "not_text")]
)
def test_a_file_without_requests_fails_its_batch(sdk: OpenAI, content: bytes, code: str) -> None:
    file_id = upload(sdk, content)
    batch = ended(sdk, sdk.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"))
    assert batch.status == "failed"
    assert code in [error.code for error in errors_of(batch)]


def test_every_bad_line_of_a_file_is_told_at_once(sdk: OpenAI) -> None:
    bad = [4, 9, 17]
    rows = [b"{\n" if number in bad else jsonl([request(number)]) for number in range(1, 21)]
    file_id = upload(sdk, b"".join(rows))
    batch = ended(sdk, sdk.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"))
    assert [(error.code, error.line) for error in errors_of(batch)] == [("invalid_json_line", line) for line in bad]
    # What is ours beside the client's own fields is passed through by it.
    assert batch.errors is not None
    assert batch.errors.to_dict()["total"] == 3
    assert batch.errors.to_dict()["counts"] == {"invalid_json_line": 3}


def test_bad_lines_can_be_skipped(sdk: OpenAI) -> None:
    content = jsonl([request(0)]) + b"{not JSON\n" + jsonl([request(2) | {"method": "GET"}, request(3)])
    created = sdk.batches.create(
        input_file_id=upload(sdk, content), endpoint=CHAT, completion_window="24h", extra_body={"on_error": "skip"}
    )
    batch = ended(sdk, created)
    assert batch.status == "completed"
    assert custom_ids(lines(sdk, batch.output_file_id)) == ["row-0", "row-3"]
    skipped = lines(sdk, batch.error_file_id)
    assert [line["error"]["code"] for line in skipped] == ["invalid_json_line", "invalid_method"]
    assert all(line["response"] is None for line in skipped)
    assert skipped[1]["custom_id"] == "row-2"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.failed) == (4, 2)


def test_the_beginning_of_a_running_batchs_output_can_be_read(half_done: tuple[OpenAI, Batch]) -> None:
    sdk, _ = half_done
    batch = wait_for(lambda: sdk.batches.retrieve(half_done[1].id), lambda found: found.output_file_id is not None)
    file_id = cast(str, batch.output_file_id)
    whole = sdk.files.with_raw_response.content(file_id)
    assert len(whole.text.splitlines()) == FINISHED
    assert whole.headers["x-incomplete"] == "true"
    assert whole.headers["x-last-line"] == str(FINISHED)

    rest = sdk.files.with_raw_response.content(file_id, extra_query={"offset": 3})
    assert [json.loads(line)["custom_id"] for line in rest.text.splitlines()] == ["row-3", "row-4"]
    assert rest.headers["x-last-line"] == str(FINISHED)

    sdk.batches.cancel(batch.id)
    ended(sdk, batch)
    nothing_more = sdk.files.with_raw_response.content(file_id, extra_query={"offset": FINISHED})
    assert nothing_more.text == ""
    assert nothing_more.headers["x-incomplete"] == "false"


@pytest.mark.parametrize("number", range(8))
def test_what_was_read_of_a_growing_output_stays_and_its_last_part_is_whole(sdk: OpenAI, number: int) -> None:
    batch = submit(sdk, [f"sim-latency-{5 * row % 400}ms" for row in range(100)])
    file_id = wait_for(lambda: sdk.batches.retrieve(batch.id).output_file_id, lambda found: found is not None)
    before, incomplete = b"", True
    while incomplete:
        page = sdk.files.with_raw_response.content(cast(str, file_id))
        whole = page.http_response.content
        assert whole.startswith(before)
        assert whole.count(b"\n") == int(page.headers["x-last-line"])
        before, incomplete = whole, page.headers["x-incomplete"] == "true"
    assert before.count(b"\n") == 100


def test_no_character_of_an_answer_or_an_id_breaks_its_line(sdk: OpenAI) -> None:
    # Python's clients split text at all of these, and JSON may hold the last three as they are.
    odd = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
    rows = [request(0), request(1) | {"custom_id": f"odd{odd}1"}, request(2)]
    # The simulated service gives the model's name back as it came.
    rows[1]["body"]["model"] = f"odd{odd}model"
    content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    file_id = upload(sdk, content)
    batch = ended(sdk, sdk.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"))
    assert batch.output_file_id is not None
    output = [json.loads(line) for line in sdk.files.content(batch.output_file_id).iter_lines()]
    assert custom_ids(output) == ["row-0", f"odd{odd}1", "row-2"]
    assert output[1]["response"]["body"]["model"] == f"odd{odd}model"
