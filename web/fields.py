"""The values that forms and queries hold: how each is checked, and what that means in JSON Schema."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from common import json_text
from common.endpoints import MAX_MODEL_CHARACTERS
from common.money import DOLLARS, parse_dollars
from common.names import MAX_NAME_CHARACTERS
from common.webhook_urls import MAX_URL_CHARACTERS

MAX_NESTING = 100


def _storable(value: str) -> str:
    if not json_text.is_storable(value):
        raise ValueError("holds a NUL character or half of a surrogate pair")
    return value


def _not_blank(value: str) -> str:
    if json_text.is_blank(value):
        raise ValueError("is empty")
    return value


def _text_or_texts(value: object) -> object:
    if not all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
        raise ValueError("must be a string or a list of strings")
    return value


def _storable_json(value: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [value]
    for _ in range(MAX_NESTING):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _storable(item)
            elif isinstance(item, list):
                deeper += item
            elif isinstance(item, dict):
                deeper += [*item, *item.values()]
        if not deeper:
            return value
        level = deeper
    raise ValueError(f"is nested over {MAX_NESTING} levels deep")


def _nano_dollars(value: object) -> int:
    amount = parse_dollars(value if isinstance(value, str) else "")
    if amount == 0:
        raise ValueError("is more than nothing")
    return amount


def _whole(value: object) -> object:
    """JSON has one kind of number: 60.0 is 60 there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def documented(**schema: Any) -> Any:
    """What a validator of ours means, in JSON Schema."""
    return Field(json_schema_extra=schema)


CONTROLS = r"\u0000-\u001f\u007f-\u009f"
STORABLE = r"^[^\u0000]*$"
# What common.names takes, which is nothing that a terminal would act on.
NAME = rf"^[^{CONTROLS}]*{json_text.NOT_BLANK[:-1]}{CONTROLS}][^{CONTROLS}]*$"
STORABLE_NOT_BLANK = rf"^[^\u0000]*{json_text.NOT_BLANK[:-1]}\u0000][^\u0000]*$"
STORABLE_JSON = {
    "type": ["object", "array", "string", "number", "boolean", "null"],
    "pattern": STORABLE,
    "items": {"$ref": "#/components/schemas/StorableJson"},
    "propertyNames": {"pattern": STORABLE},
    "additionalProperties": {"$ref": "#/components/schemas/StorableJson"},
}

WHOLE = BeforeValidator(_whole)
Text = Annotated[str, AfterValidator(_storable), documented(pattern=STORABLE)]
NotBlank = Annotated[str, AfterValidator(_not_blank), documented(pattern=json_text.NOT_BLANK)]
TextNotBlank = Annotated[Text, AfterValidator(_not_blank), documented(pattern=STORABLE_NOT_BLANK)]
JsonObject = Annotated[
    dict[str, Any], AfterValidator(_storable_json), WithJsonSchema(STORABLE_JSON | {"type": "object"})
]
Model = Annotated[TextNotBlank, Field(max_length=MAX_MODEL_CHARACTERS)]
Name = Annotated[Text, AfterValidator(_not_blank), Field(max_length=MAX_NAME_CHARACTERS), documented(pattern=NAME)]
MetadataKey = Annotated[Text, Field(min_length=1, max_length=64)]
Metadata = Annotated[dict[MetadataKey, Annotated[Text, Field(max_length=512)]], Field(max_length=16)]
# What any server takes: common.webhook_urls checks more, and takes hosts that the operator lists.
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
WebhookUrl = Annotated[
    Text,
    WithJsonSchema(
        {
            "type": "string",
            "format": "uri",
            "maxLength": MAX_URL_CHARACTERS,
            "pattern": rf"^https://({_LABEL}\.){{1,3}}[a-z]{{2,63}}(:(443|8443))?(/[A-Za-z0-9._~/-]*)?(\?[A-Za-z0-9._~=&-]*)?$",
        }
    ),
]
# Not the union of the two: pydantic would name its branches as if they were fields.
Stop = Annotated[
    Any,
    AfterValidator(_text_or_texts),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
# An amount of dollars as an exact string, read as nano-dollars.
Dollars = Annotated[
    int,
    BeforeValidator(_nano_dollars),
    WithJsonSchema({"type": "string", "pattern": rf"^(?!0*(\.0*)?$){DOLLARS}$"}),
]
