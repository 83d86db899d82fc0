"""POST /v1/embeddings: unit vectors that depend on the text alone."""

import base64
import struct
from array import array
from hashlib import shake_128
from math import sqrt
from typing import Any

from local.provider.answer import Answer, Manner, as_json
from local.provider.calls import Usage
from local.provider.errors import invalid
from local.provider.fields import Body, prompts, required, whole_number

DIMENSIONS = 1_536
LARGE_DIMENSIONS = 3_072


def answer(body: Body, manner: Manner) -> Answer:
    """Raises RefusedError naming the field that is wrong."""
    texts, tokens = prompts(body, "input")
    usual = LARGE_DIMENSIONS if "large" in str(required(body, "model")) else DIMENSIONS
    dimensions = whole_number(body, "dimensions", 1, LARGE_DIMENSIONS) or usual
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise invalid("encoding_format", f"Invalid value: '{encoding}'. Supported values are: 'float' and 'base64'.")
    if "" in texts:
        raise invalid("input", "Invalid 'input': input cannot be an empty string.", "invalid_value")
    vectors = (_vector(text, dimensions) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer(Usage(tokens), as_json({"object": "list", "data": data, "model": body["model"], "usage": usage}))


def _vector(text: str, dimensions: int) -> list[float]:
    numbers = array("h", shake_128(text.encode()).digest(2 * dimensions))
    length = sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _encoded(vector: list[float], encoding: str) -> Any:
    floats = struct.pack(f"<{len(vector)}f", *vector)
    if encoding == "base64":
        return base64.b64encode(floats).decode()
    # The same 32-bit floats in both encodings, shown with as many digits as they have.
    return [float(f"{number:.8g}") for number in struct.unpack(f"<{len(vector)}f", floats)]
