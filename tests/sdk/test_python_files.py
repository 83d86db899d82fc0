"""Files through the official Python client."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI
from openai.types import FileObject

from tests.conftest import MAX_UPLOAD_BYTES
from tests.sdk.conftest import NewSdk
from tests.sdk.work import jsonl, requests, upload
from tests.waiting import Stopwatch

CONTENT = jsonl(requests(["sim"] * 3))
UNKNOWN = "file-" + "0" * 32
HOUR, MONTH = 3_600, 2_592_000


def stored_path(folder: Path) -> Path:
    path = folder / "on disk.jsonl"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    ("given", "filename"),
    [
        (lambda folder: stored_path(folder), "on disk.jsonl"),
        (lambda folder: stored_path(folder).open("rb"), "on disk.jsonl"),
        (lambda folder: CONTENT, "upload"),
        (lambda folder: io.BytesIO(CONTENT), "upload"),
        (lambda folder: ("named.jsonl", CONTENT), "named.jsonl"),
        (lambda folder: ("typed.jsonl", io.BytesIO(CONTENT), "application/jsonl"), "typed.jsonl"),
        (lambda folder: ("Grüße, 世界.jsonl", CONTENT), "Grüße, 世界.jsonl"),
    ],
    ids=["path", "open file", "bytes", "stream", "named", "typed", "not ascii"],
)
def test_a_file_is_taken_in_every_form_the_client_can_send_and_comes_back_byte_for_byte(
    sdk: OpenAI, tmp_path: Path, given: Callable[[Path], Any], filename: str
) -> None:
    file = given(tmp_path)
    created = sdk.files.create(file=file, purpose="batch")
    if isinstance(file, io.BufferedReader):
        file.close()
    assert re.fullmatch(r"file-[0-9a-f]{32}", created.id)
    assert created.filename == filename
    assert created.bytes == len(CONTENT)
    assert created.purpose == "batch"
    assert created.status == "processed"
    assert abs(created.created_at - time.time()) < 60
    assert sdk.files.retrieve(created.id) == created
    assert sdk.files.content(created.id).content == CONTENT


def test_a_file_object_has_the_types_that_it_is_documented_with(sdk: OpenAI) -> None:
    response = sdk.files.with_raw_response.create(file=("a.jsonl", CONTENT), purpose="batch")
    assert response.status_code == 200
    assert response.request_id is not None
    assert response.request_id.startswith("req_")
    # Strictly, because the client would take the text "17" for a number, and other clients would not.
    assert FileObject.model_validate_json(response.http_response.content, strict=True) == response.parse()


@pytest.mark.parametrize("seconds", [HOUR, 86_400, MONTH])
def test_a_file_expires_when_its_customer_says(sdk: OpenAI, seconds: int) -> None:
    created = sdk.files.create(
        file=("a.jsonl", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
    )
    assert created.expires_at == created.created_at + seconds
    assert sdk.files.retrieve(created.id).expires_at == created.expires_at


@pytest.mark.parametrize("seconds", [HOUR - 1, MONTH + 1, 0, -1])
def test_a_file_cannot_expire_sooner_or_later_than_allowed(sdk: OpenAI, seconds: int) -> None:
    with pytest.raises(BadRequestError) as refused:
        sdk.files.create(
            file=("a.jsonl", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
        )
    assert refused.value.param is not None
    assert refused.value.param.startswith("expires_after")


def test_a_purpose_that_is_not_served_is_refused_by_name(sdk: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        sdk.files.create(file=("a.jsonl", CONTENT), purpose="fine-tune")
    assert refused.value.param == "purpose"
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize("size", [MAX_UPLOAD_BYTES + 1, 10 * MAX_UPLOAD_BYTES])
def test_a_file_over_the_limit_is_refused_with_an_answer_not_with_a_broken_connection(sdk: OpenAI, size: int) -> None:
    with pytest.raises(APIStatusError) as refused:
        sdk.files.create(file=("big.jsonl", b"x" * size), purpose="batch")
    assert refused.value.status_code == 413


def test_a_file_is_ready_without_waiting(sdk: OpenAI) -> None:
    file_id = upload(sdk, CONTENT)
    waiting = Stopwatch()
    # Its first pause would be of five seconds.
    assert sdk.files.wait_for_processing(file_id).status == "processed"
    assert waiting.seconds < 4


def test_the_pages_of_a_list_hold_every_file_once_in_the_order_asked_for(new_sdk: NewSdk) -> None:
    sdk = new_sdk()
    uploaded = [upload(sdk, CONTENT) for _ in range(7)]
    newest_first = uploaded[::-1]

    assert [file.id for file in sdk.files.list()] == newest_first
    for limit in (1, 3, 7, 10_000):
        assert [file.id for file in sdk.files.list(limit=limit)] == newest_first
        assert [file.id for file in sdk.files.list(limit=limit, order="desc")] == newest_first
        assert [file.id for file in sdk.files.list(limit=limit, order="asc")] == uploaded
    assert [len(page.data) for page in sdk.files.list(limit=3).iter_pages()] == [3, 3, 1]
    assert [file.id for file in sdk.files.list(after=newest_first[1], limit=2)] == newest_first[2:]
    assert [file.id for file in sdk.files.list(after=uploaded[1], limit=2, order="asc")] == uploaded[2:]
    assert [file.id for file in sdk.files.list(purpose="batch", limit=4)] == newest_first
    assert list(sdk.files.list(purpose="batch_output")) == []
    assert list(sdk.files.list(after=newest_first[-1])) == []
    assert sdk.files.list(limit=0).data == []


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_files_can_be_deleted_while_their_list_is_read(new_sdk: NewSdk, order: Literal["asc", "desc"]) -> None:
    sdk = new_sdk()
    uploaded = {upload(sdk, CONTENT) for _ in range(5)}
    # The next page begins behind a file that is gone by then.
    assert {sdk.files.delete(file.id).id for file in sdk.files.list(limit=2, order=order)} == uploaded
    assert list(sdk.files.list()) == []


def test_a_cursor_that_is_no_file_is_refused_by_name(sdk: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        sdk.files.list(after="batch_1")
    assert refused.value.param == "after"


def test_content_can_be_read_in_every_way_the_client_has(sdk: OpenAI, tmp_path: Path) -> None:
    file_id = upload(sdk, CONTENT)
    assert sdk.files.content(file_id).read() == CONTENT
    assert sdk.files.content(file_id).text == CONTENT.decode()
    assert b"".join(sdk.files.content(file_id).iter_bytes(100)) == CONTENT
    assert list(sdk.files.content(file_id).iter_lines()) == CONTENT.decode().splitlines()

    whole = tmp_path / "whole.jsonl"
    sdk.files.content(file_id).write_to_file(whole)
    assert whole.read_bytes() == CONTENT

    streamed = tmp_path / "streamed.jsonl"
    with sdk.files.with_streaming_response.content(file_id) as response:
        assert response.headers["content-type"].startswith("application/octet-stream")
        assert int(response.headers["content-length"]) == len(CONTENT)
        assert "input.jsonl" in response.headers["content-disposition"]
        response.stream_to_file(streamed)
    assert streamed.read_bytes() == CONTENT

    with pytest.warns(DeprecationWarning, match="content"):
        # Only some versions of mypy tell that it is deprecated.
        text = sdk.files.retrieve_content(file_id)  # type: ignore[deprecated, unused-ignore]
    assert text == CONTENT.decode()


def test_content_that_is_no_text_comes_back_byte_for_byte(sdk: OpenAI) -> None:
    content = bytes(range(256)) * 100
    assert sdk.files.content(upload(sdk, content)).read() == content


def test_a_deleted_file_is_gone(sdk: OpenAI) -> None:
    file_id = upload(sdk, CONTENT)
    deleted = sdk.files.delete(file_id)
    assert deleted.id == file_id
    assert deleted.deleted is True
    assert file_id not in [file.id for file in sdk.files.list()]
    for method in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(NotFoundError):
            method(file_id)
    with pytest.raises(APIStatusError) as refused:
        sdk.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
    assert refused.value.status_code in (400, 404)
    assert refused.value.param == "input_file_id"


def test_another_accounts_file_looks_like_an_unknown_one(sdk: OpenAI, new_sdk: NewSdk) -> None:
    theirs = upload(new_sdk(), CONTENT)
    for method in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        messages = []
        for file_id in (theirs, UNKNOWN):
            with pytest.raises(NotFoundError) as missing:
                method(file_id)
            messages.append(str(missing.value.body).replace(file_id, "ID"))
        assert messages[0] == messages[1]
