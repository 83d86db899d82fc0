"""How the official Python client understands refusals, and addresses without a version."""

from collections.abc import Callable
from typing import cast

import pytest
from openai import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    DefaultHttpxClient,
    InternalServerError,
    NotFoundError,
    OpenAI,
    omit,
)

from local.stack import Stack
from tests.sdk.conftest import NewSdk
from tests.sdk.work import CHAT, custom_ids, ended, jsonl, lines, request, requests, submit, upload
from tests.sleeping import workers_asleep

UNKNOWN_BATCH = "batch_" + "0" * 32


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda sdk: sdk.batches.retrieve(UNKNOWN_BATCH), NotFoundError),
        (lambda sdk: sdk.batches.list(limit=101), BadRequestError),
        (lambda sdk: sdk.files.list(limit=10_001), BadRequestError),
        (lambda sdk: sdk.files.list(extra_query={"order": "random"}), BadRequestError),
        (lambda sdk: sdk.models.retrieve("no-such-model"), NotFoundError),
        (lambda sdk: sdk.get("/no/such/address", cast_to=object), NotFoundError),
    ],
)
def test_a_refusal_is_the_clients_own_error_with_all_of_its_fields(
    sdk: OpenAI, call: Callable[[OpenAI], object], expected: type[APIStatusError]
) -> None:
    with pytest.raises(expected) as refused:
        call(sdk)
    error = refused.value
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.type == error.body["type"]
    assert error.type is not None
    assert error.type.endswith("_error")
    assert error.body["message"] in error.message
    assert error.request_id is not None
    assert error.request_id.startswith("req_")


@pytest.mark.parametrize("key", ["sk-none", "x", "x" * 5_000])
def test_a_key_that_is_none_of_ours_is_an_authentication_error(stack: Stack, key: str) -> None:
    with (
        OpenAI(
            api_key=key, base_url=f"{stack.base_url}/v1", http_client=DefaultHttpxClient(trust_env=False)
        ) as stranger,
        pytest.raises(AuthenticationError) as refused,
    ):
        stranger.files.list()
    assert refused.value.type == "authentication_error"
    assert refused.value.response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "24 hours"}, "completion_window"),
        ({"completion_window": "30d"}, "completion_window"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"key": "x" * 513}}, "metadata"),
        ({"metadata": {"key": 17}}, "metadata"),
        ({"output_expires_after": {"anchor": "updated_at", "seconds": 3_600}}, "output_expires_after"),
        ({"on_error": "ignore"}, "on_error"),
        ({"requests": [request(0)]}, "requests"),
    ],
)
def test_a_batch_that_means_nothing_is_refused_by_the_name_of_the_field(
    sdk: OpenAI, changed: dict[str, object], param: str
) -> None:
    file_id = upload(sdk, jsonl([request(0)]))
    with pytest.raises(BadRequestError) as refused:
        sdk.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h", extra_body=changed)
    assert refused.value.param is not None
    # Of two inputs either may be the one that is named.
    assert refused.value.param.startswith((param, "input_file_id") if param == "requests" else param)


def test_requests_that_are_too_large_to_be_sent_without_a_file_are_refused_with_an_answer(sdk: OpenAI) -> None:
    rows = [request(number) | {"body": {"model": "sim", "filler": "x" * 2**20}} for number in range(20)]
    with pytest.raises(APIStatusError) as refused:
        sdk.batches.create(
            input_file_id=cast(str, omit), endpoint=CHAT, completion_window="24h", extra_body={"requests": rows}
        )
    assert refused.value.status_code == 413


def test_the_address_may_leave_out_the_version(sdk: OpenAI, new_sdk: NewSdk) -> None:
    unversioned = new_sdk(path="", of=sdk)
    file_id = upload(unversioned, jsonl(requests(["sim"] * 3)))
    assert unversioned.files.retrieve(file_id) == sdk.files.retrieve(file_id)
    assert file_id in [file.id for file in unversioned.files.list(limit=2)]
    # What a batch and its rows call keeps its version: it is a path of the provider.
    created = unversioned.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    batch = ended(unversioned, created)
    assert batch == sdk.batches.retrieve(created.id)
    assert created.id in [listed.id for listed in unversioned.batches.list(limit=2)]
    assert custom_ids(lines(unversioned, batch.output_file_id)) == ["row-0", "row-1", "row-2"]
    assert unversioned.models.list().data == sdk.models.list().data
    assert unversioned.files.delete(file_id).deleted is True


def test_a_batch_outlives_its_input_file(stack: Stack, sdk: OpenAI) -> None:
    with workers_asleep(stack):
        batch = submit(sdk, ["sim"] * 20)
        assert sdk.files.delete(batch.input_file_id).deleted is True
    finished = ended(sdk, batch)
    assert finished.status == "completed"
    assert finished.input_file_id == batch.input_file_id
    assert len(lines(sdk, finished.output_file_id)) == 20


def test_no_answer_of_the_server_is_one_that_the_client_cannot_read(sdk: OpenAI) -> None:
    for path in ("/files/%00", "/batches/%ff", "/files/..%2f..%2fetc/content", "/models/%2e%2e"):
        with pytest.raises(APIStatusError) as refused:
            sdk.get(path, cast_to=object)
        assert not isinstance(refused.value, InternalServerError)
        assert isinstance(refused.value.body, dict)
