"""What the endpoints demand of a body's fields; a field that fails is a 400 in OpenAI's words."""

from typing import Any

from local.provider.errors import RefusedError, invalid
from local.provider.text import tokens_of

Body = dict[str, Any]

MAX_CHOICES = 128
MAX_OUTPUT_TOKENS = 2**31


def required(body: Body, name: str) -> Any:
    value = body.get(name)
    if value is None:
        raise invalid(name, f"Missing required parameter: '{name}'.", "missing_required_parameter")
    if value == []:
        raise invalid(name, f"Invalid '{name}': empty array. Expected an array with minimum length 1.", "empty_array")
    return value


def whole_number(body: Body, name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    _check_range(name, "integer", value, least, most)
    return value


def output_limit(body: Body, *names: str) -> int | None:
    """The number of tokens of the first of these fields that is given."""
    for name in names:
        if body.get(name) is not None:
            return whole_number(body, name, 1, MAX_OUTPUT_TOKENS)
    return None


def choices(body: Body) -> int:
    return whole_number(body, "n", 1, MAX_CHOICES) or 1 if "n" in body else 1


def check_sampling(body: Body) -> None:
    for name, most in (("temperature", 2), ("top_p", 1)):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(name, "a decimal", value)
        _check_range(name, "decimal", value, 0, most)


def _check_range(name: str, kind: str, value: float, least: int, most: int) -> None:
    if least <= value <= most:
        return
    side, short, bound = ("below minimum", "below_min", f">= {least}")
    if value > most:
        side, short, bound = ("above maximum", "above_max", f"<= {most}")
    message = f"Invalid '{name}': {kind} {side} value. Expected a value {bound}, but got {value} instead."
    raise invalid(name, message, f"{kind}_{short}_value")


def wrong_type(name: str, wanted: str, value: object) -> RefusedError:
    message = f"Invalid type for '{name}': expected {wanted}, but got {_KINDS[type(value)]} instead."
    return invalid(name, message, "invalid_type")


_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def said(content: Any, name: str) -> str:
    """The text of a message's content: a string, or parts of which those with a text count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return " ".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if content is None:
        return ""
    raise wrong_type(name, "one of a string or array of objects", content)


def prompts(body: Body, name: str) -> tuple[list[str], int]:
    """The prompts of completions and embeddings, and their tokens: a string, strings, token ids, or lists of those."""
    value = required(body, name)
    if isinstance(value, str):
        return [value], tokens_of(len(value))
    if not isinstance(value, list):
        raise wrong_type(name, "one of a string or array", value)
    if all(isinstance(item, str) for item in value):
        return value, sum(tokens_of(len(item)) for item in value)
    lists = value if all(isinstance(item, list) for item in value) else [value]
    if not all(isinstance(token, int) for tokens in lists for token in tokens):
        raise wrong_type(name, "one of a string, array of strings or array of integers", value)
    return [" ".join(map(str, tokens)) for tokens in lists], sum(map(len, lists))
