"""Models through the official Python client."""

import pytest
from openai import APIStatusError, NotFoundError, OpenAI
from openai.types import Model

from local.provider.service import LISTED_MODELS
from tests.waiting import wait_for


def test_the_models_of_the_model_service_are_listed(sdk: OpenAI) -> None:
    def listed() -> set[str]:
        return {model.id for model in sdk.models.list()}

    # A worker asks for them after it has started.
    assert wait_for(listed, lambda found: set(LISTED_MODELS) <= found) >= set(LISTED_MODELS)


def test_each_listed_model_can_be_read(sdk: OpenAI) -> None:
    for model in wait_for(lambda: list(sdk.models.list()), lambda found: bool(found)):
        response = sdk.models.with_raw_response.retrieve(model.id)
        assert Model.model_validate_json(response.http_response.content, strict=True) == model


@pytest.mark.parametrize(
    "name", ["no-such-model", "org/no such model", "ft:gpt-4o:team::x", "模型", "a?b#c", "x" * 300]
)
def test_an_unknown_model_is_not_found_whatever_its_name(sdk: OpenAI, name: str) -> None:
    with pytest.raises(NotFoundError) as missing:
        sdk.models.retrieve(name)
    assert missing.value.code == "model_not_found"


@pytest.mark.parametrize("name", ["sim", "no-such-model"])
def test_a_model_cannot_be_deleted(sdk: OpenAI, name: str) -> None:
    with pytest.raises(APIStatusError) as refused:
        sdk.models.delete(name)
    assert refused.value.status_code == (403 if name == "sim" else 404)
    assert refused.value.message
    assert wait_for(lambda: sdk.models.retrieve("sim"), lambda found: found.id == "sim")
