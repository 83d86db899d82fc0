"""JSON in and out of the platform: strict to read, compact to write."""

import json
import re
from math import isinf
from typing import Any, NoReturn

# All that Python and JSON Schema's regular expressions call white space.
NOT_BLANK = r"[^\s\u001c-\u001f\u0085\ufeff]"
_not_blank = re.compile(NOT_BLANK)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_escaped = json.JSONEncoder(separators=(",", ":")).encode


def loads(content: bytes | str) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError, also for what only Python takes for JSON: NaN and the
    infinities, numbers that would become one, and nesting deeper than the parser goes."""
    text = content.decode() if isinstance(content, bytes) else content
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError("the nesting is too deep") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


_decode = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode


def dumps(value: Any) -> bytes:
    """The value as compact JSON in UTF-8."""
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form but can be escaped, as whoever sent it did.
        return _encode_escaped(value).encode()


def is_blank(text: str) -> bool:
    return _not_blank.search(text) is None


def is_storable(text: str) -> bool:
    """Whether PostgreSQL's text can hold it: no NUL character, no lone surrogate."""
    return "\0" not in text and text.encode("utf-8", "ignore").decode() == text
