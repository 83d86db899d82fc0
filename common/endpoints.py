"""The four endpoints of a provider that jobs may call, and what each needs of a body."""

from typing import Any, Literal

from common.errors import InvalidRequest
from common.json_text import is_blank, is_storable

Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings"]

# What a prompt without an endpoint is for: a job in the short form, and a row of a CSV.
CHAT: Endpoint = "/v1/chat/completions"
# The field that carries the prompt.
PROMPT_FIELDS: dict[str, str] = {
    CHAT: "messages",
    "/v1/responses": "input",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
}
MAX_MODEL_CHARACTERS = 200


def check_body(endpoint: str, body: dict[str, Any], param: str = "body") -> None:
    """Raises InvalidRequest, naming the field, for a body that no provider could answer. What else is wrong with a body
    the provider says itself: its 400 becomes the job's failure."""
    model = body.get("model")
    if not isinstance(model, str) or is_blank(model):
        raise InvalidRequest(
            "The body needs a model: a string that is not empty.", param=f"{param}.model", code="missing_model"
        )
    if len(model) > MAX_MODEL_CHARACTERS or not is_storable(model):
        raise InvalidRequest(
            "The model's name is too long or not valid text.", param=f"{param}.model", code="model_not_found"
        )
    field = PROMPT_FIELDS[endpoint]
    prompt = body.get(field)
    if not isinstance(prompt, (str, list)) or (field == "messages" and isinstance(prompt, str)):
        kind = "a list" if field == "messages" else "a string or a list"
        raise InvalidRequest(
            f"A body for {endpoint} needs {field}: {kind}.", param=f"{param}.{field}", code="invalid_prompt"
        )
    if not prompt or (isinstance(prompt, str) and is_blank(prompt)):
        raise InvalidRequest(
            f"The prompt is empty: put something in {field}.", param=f"{param}.{field}", code="invalid_prompt"
        )
    if body.get("stream") is not None and body["stream"] is not False:
        raise InvalidRequest(
            "A job's answer is stored whole: leave stream out.", param=f"{param}.stream", code="stream_not_supported"
        )
