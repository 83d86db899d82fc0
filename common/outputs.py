"""The text a model generated, picked out of a provider's whole answer."""

from typing import Any

import msgspec

from common import json_text


class _Message(msgspec.Struct):
    content: str | None = None


class _ChatChoice(msgspec.Struct):
    message: _Message


class _ChatCompletion(msgspec.Struct):
    choices: list[_ChatChoice]


class _CompletionChoice(msgspec.Struct):
    text: str


class _Completion(msgspec.Struct):
    choices: list[_CompletionChoice]


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct):
    content: list[_Part] | None = None


class _Response(msgspec.Struct):
    output: list[_Item]


# Only the fields named above become Python objects: a tenth of the time that parsing the whole answer takes.
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "/v1/chat/completions": msgspec.json.Decoder(_ChatCompletion),
    "/v1/completions": msgspec.json.Decoder(_Completion),
    "/v1/responses": msgspec.json.Decoder(_Response),
}


def output_text(endpoint: str, body: bytes | None) -> str | None:
    """The generated text in the answer of this endpoint; None where it holds none, as embeddings do."""
    decoder = _DECODERS.get(endpoint)
    if decoder is None or body is None:
        return None
    try:
        return _text(decoder.decode(body))
    except (ValueError, RecursionError):
        return _rarer_text(decoder, body)


def _rarer_text(decoder: msgspec.json.Decoder[Any], body: bytes) -> str | None:
    """As output_text, of JSON that the faster parser refuses: half a surrogate pair is one such."""
    try:
        return _text(msgspec.convert(json_text.loads(body), decoder.type))
    except (ValueError, RecursionError):
        return None


def _text(answer: _ChatCompletion | _Completion | _Response) -> str | None:
    if isinstance(answer, _Response):
        parts = (part for item in answer.output for part in item.content or ())
        return "".join(part.text or "" for part in parts if part.type == "output_text")
    if not answer.choices:
        return None
    first = answer.choices[0]
    return first.message.content if isinstance(first, _ChatChoice) else first.text
