"""Reading what a provider answered: whether it is an answer at all, and the tokens it says it used."""

import json
from typing import Any

from common import json_text
from worker.outcomes import TokenUsage


def parse(body: bytes) -> dict[str, Any] | None:
    """The answer as an object, or None when it is no JSON object: the provider, or something before it, misbehaved."""
    try:
        answer = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def model_of(body: bytes) -> str:
    """The model a request asks for."""
    request = parse(body)
    return str(request.get("model", "")) if request else ""


def for_model(body: bytes, model: str) -> bytes:
    """The request, asking for another model."""
    request = json_text.loads(body)
    return json_text.dumps(request | {"model": model}) if request.get("model") != model else body


def usage_of(answer: dict[str, Any]) -> TokenUsage:
    """The usage of any of the four endpoints: /v1/responses counts input and output, the others prompt and completion.
    A provider that tells none is taken at its word: no tokens."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return TokenUsage(0, 0, 0)
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else 0
    return TokenUsage(prompt, min(cached, prompt), completion)


def _count(usage: dict[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and 0 <= value < 2**31:
            return value
    return 0


def error_of(body: bytes) -> tuple[str | None, str | None]:
    """Code and message of an error in OpenAI's shape, as far as it has them."""
    answer = parse(body)
    error = answer.get("error") if answer else None
    if isinstance(error, str):
        return None, storable(error)
    if not isinstance(error, dict):
        return None, None
    code, message = error.get("code") or error.get("type"), error.get("message")
    return (storable(str(code)) if code else None), (storable(str(message)) if message else None)


def storable(text: str) -> str:
    """The text without what PostgreSQL's text cannot hold: NUL characters and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")
