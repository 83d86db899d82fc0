"""Batches through the official Python client, from the upload to the last line of the output."""

import re
from itertools import pairwise
from typing import cast

import pytest
from openai import BadRequestError, NotFoundError, OpenAI, omit
from openai.types import Batch, BatchUsage, Completion, CreateEmbeddingResponse
from openai.types.batch_usage import InputTokensDetails, OutputTokensDetails
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel

from tests.sdk.conftest import NewSdk
from tests.sdk.work import CHAT, Endpoint, custom_ids, ended, jsonl, lines, request, requests, submit, upload

ROWS = 50
ANSWERS: dict[Endpoint, type[BaseModel]] = {
    "/v1/chat/completions": ChatCompletion,
    "/v1/responses": Response,
    "/v1/completions": Completion,
    "/v1/embeddings": CreateEmbeddingResponse,
}


def counts(batch: Batch) -> tuple[int, int, int]:
    """Total, completed and failed."""
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


def used(bodies: list[dict[str, dict[str, int]]]) -> BatchUsage:
    """The usage of these answers together. Chat and completions name their tokens otherwise than responses."""
    sums = {"input": 0, "cached": 0, "output": 0}
    for usage in (body["usage"] for body in bodies):
        details = cast(dict[str, int], usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {})
        sums["input"] += usage.get("prompt_tokens", usage.get("input_tokens", 0))
        sums["cached"] += details.get("cached_tokens", 0)
        sums["output"] += usage.get("completion_tokens", usage.get("output_tokens", 0))
    return BatchUsage(
        input_tokens=sums["input"],
        input_tokens_details=InputTokensDetails(cached_tokens=sums["cached"]),
        output_tokens=sums["output"],
        output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
        total_tokens=sums["input"] + sums["output"],
    )


@pytest.mark.parametrize("endpoint", ANSWERS)
def test_a_file_of_requests_becomes_a_file_of_answers_in_input_order(sdk: OpenAI, endpoint: Endpoint) -> None:
    file_id = upload(sdk, jsonl(requests(["sim"] * ROWS, endpoint)))
    created = sdk.batches.create(
        input_file_id=file_id, endpoint=endpoint, completion_window="24h", metadata={"order": "17", "Größe": "☃"}
    )
    assert re.fullmatch(r"batch_[0-9a-f]{32}", created.id)
    assert created.status == "validating"
    assert created.input_file_id == file_id
    assert created.endpoint == endpoint
    assert created.completion_window == "24h"
    assert created.metadata == {"order": "17", "Größe": "☃"}
    assert created.expires_at == created.created_at + 24 * 3_600
    assert counts(created)[1:] == (0, 0)

    batch = ended(sdk, created)
    assert batch.status == "completed"
    assert counts(batch) == (ROWS, ROWS, 0)
    assert batch.metadata == created.metadata
    assert batch.errors is None
    assert batch.error_file_id is None
    assert batch.failed_at is batch.expired_at is batch.cancelling_at is batch.cancelled_at is None
    times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert all(earlier is not None and later is not None and earlier <= later for earlier, later in pairwise(times))

    output = lines(sdk, batch.output_file_id)
    assert custom_ids(output) == [f"row-{number}" for number in range(ROWS)]
    bodies = [line["response"]["body"] for line in output]
    for line, body in zip(output, bodies, strict=True):
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        assert isinstance(line["response"]["request_id"], str)
        answer = ANSWERS[endpoint].model_validate(body)
        assert answer.model_dump()["model"] == "sim"
    assert len({line["id"] for line in output}) == ROWS
    assert batch.usage == used(bodies)


def test_a_batch_object_has_the_types_that_it_is_documented_with(sdk: OpenAI) -> None:
    batch = ended(sdk, submit(sdk, ["sim", "sim-400"]))
    response = sdk.batches.with_raw_response.retrieve(batch.id)
    assert response.request_id is not None
    assert Batch.model_validate_json(response.http_response.content, strict=True) == response.parse() == batch
    with sdk.batches.with_streaming_response.retrieve(batch.id) as streamed:
        assert streamed.parse() == batch


def test_rows_that_fail_are_in_the_error_file_and_the_others_in_the_output(sdk: OpenAI) -> None:
    models = ["sim", "sim-400", "sim", "sim-404", "sim", "sim-400"]
    batch = ended(sdk, submit(sdk, models))
    assert batch.status == "completed"
    assert counts(batch) == (6, 3, 3)
    assert custom_ids(lines(sdk, batch.output_file_id)) == ["row-0", "row-2", "row-4"]
    failed = lines(sdk, batch.error_file_id)
    assert custom_ids(failed) == ["row-1", "row-3", "row-5"]
    assert [line["response"]["status_code"] for line in failed] == [400, 404, 400]
    for line in failed:
        # An answer of the provider is a response, also where it is an error: `error` is for rows without one.
        assert line["error"] is None
        assert line["response"]["body"]["error"]["message"]


def test_a_batch_in_which_every_row_failed_is_completed_without_an_output_file(new_sdk: NewSdk) -> None:
    sdk = new_sdk()
    batch = ended(sdk, submit(sdk, ["sim-400"] * 3))
    assert batch.status == "completed"
    assert counts(batch) == (3, 0, 3)
    assert batch.output_file_id is None
    assert len(lines(sdk, batch.error_file_id)) == 3
    assert [file.id for file in sdk.files.list(purpose="batch_output")] == [batch.error_file_id]


def test_output_files_are_files_with_their_exact_size(new_sdk: NewSdk) -> None:
    sdk = new_sdk()
    batch = ended(sdk, submit(sdk, ["sim", "sim-400", "sim"]))
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = sdk.files.retrieve(file_id)
        assert file.purpose == "batch_output"
        assert file.status == "processed"
        assert file.filename.endswith(".jsonl")
        response = sdk.files.with_raw_response.content(file_id)
        assert file.bytes == len(response.http_response.content) == int(response.headers["content-length"])
        assert file.filename in response.headers["content-disposition"]
        assert sdk.files.wait_for_processing(file_id) == file
    listed = {file.id for file in sdk.files.list(purpose="batch_output")}
    assert listed == {batch.output_file_id, batch.error_file_id}
    assert {file.id for file in sdk.files.list()} == {*listed, batch.input_file_id}


def test_a_deleted_output_is_gone_and_the_batch_stays(sdk: OpenAI) -> None:
    batch = ended(sdk, submit(sdk, ["sim"] * 2))
    assert batch.output_file_id is not None
    assert sdk.files.delete(batch.output_file_id).deleted is True
    with pytest.raises(NotFoundError):
        sdk.files.content(batch.output_file_id)
    assert sdk.batches.retrieve(batch.id).status == "completed"


def test_outputs_expire_when_their_customer_says(sdk: OpenAI) -> None:
    created = sdk.batches.create(
        input_file_id=upload(sdk, jsonl(requests(["sim-latency-2s", "sim-400"]))),
        endpoint=CHAT,
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    batch = ended(sdk, created)
    for file_id in (batch.output_file_id, batch.error_file_id):
        assert file_id is not None
        file = sdk.files.retrieve(file_id)
        # Counted from the file's own creation, not from the batch's.
        assert file.expires_at == file.created_at + 3_600


@pytest.mark.parametrize("seconds", [3_599, 2_592_001])
def test_outputs_cannot_expire_sooner_or_later_than_allowed(sdk: OpenAI, seconds: int) -> None:
    with pytest.raises(BadRequestError) as refused:
        sdk.batches.create(
            input_file_id=upload(sdk, jsonl([request(0)])),
            endpoint=CHAT,
            completion_window="24h",
            output_expires_after={"anchor": "created_at", "seconds": seconds},
        )
    assert refused.value.param == "output_expires_after.seconds"


def test_the_pages_of_a_list_hold_every_batch_once_newest_first(new_sdk: NewSdk) -> None:
    sdk = new_sdk()
    newest_first = [submit(sdk, ["sim"]).id for _ in range(5)][::-1]
    assert [batch.id for batch in sdk.batches.list()] == newest_first
    for limit in (1, 2, 5, 100):
        assert [batch.id for batch in sdk.batches.list(limit=limit)] == newest_first
    assert [len(page.data) for page in sdk.batches.list(limit=2).iter_pages()] == [2, 2, 1]
    assert [batch.id for batch in sdk.batches.list(after=newest_first[1], limit=2)] == newest_first[2:]
    assert sdk.batches.list(limit=0).data == []


def test_a_batch_of_a_file_that_does_not_exist_is_refused_by_name(sdk: OpenAI) -> None:
    with pytest.raises((BadRequestError, NotFoundError)) as refused:
        sdk.batches.create(input_file_id="file-" + "0" * 32, endpoint=CHAT, completion_window="24h")
    assert refused.value.param == "input_file_id"


def test_another_accounts_batch_looks_like_an_unknown_one(sdk: OpenAI, new_sdk: NewSdk) -> None:
    theirs = submit(new_sdk(), ["sim"]).id
    for method in (sdk.batches.retrieve, sdk.batches.cancel):
        messages = []
        for batch_id in (theirs, "batch_" + "0" * 32):
            with pytest.raises(NotFoundError) as missing:
                method(batch_id)
            messages.append(str(missing.value.body).replace(batch_id, "ID"))
        assert messages[0] == messages[1]


def test_requests_can_be_sent_without_a_file(sdk: OpenAI) -> None:
    created = sdk.batches.create(
        input_file_id=cast(str, omit),
        endpoint=CHAT,
        completion_window="24h",
        extra_body={"requests": requests(["sim", "sim-400", "sim"])},
    )
    batch = ended(sdk, created)
    assert batch.status == "completed"
    assert counts(batch) == (3, 2, 1)
    assert custom_ids(lines(sdk, batch.output_file_id)) == ["row-0", "row-2"]
    assert custom_ids(lines(sdk, batch.error_file_id)) == ["row-1"]


def test_what_is_batchyards_own_can_be_called_through_the_client_too(sdk: OpenAI) -> None:
    wanted = {"input_file_id": upload(sdk, jsonl([request(0)])), "endpoint": CHAT, "completion_window": "24h"}
    estimate = cast(dict[str, object], sdk.post("/batches/estimate", body=wanted, cast_to=object))
    assert estimate["object"] == "batch.estimate"
    assert estimate["valid"] is True
