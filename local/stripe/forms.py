"""Stripe's form encoding: `items[0][price]=x`, `expand[]=y` as nested dicts, and what is in them read by type.

What a call does not read is refused as an unknown parameter, as Stripe does: a misspelt name never passes here.
"""

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

from local.stripe.errors import invalid, missing, unknown

MAX_DEPTH = 8
MAX_FIELDS = 5_000
LONGEST_TEXT = 5_000
LARGEST_INTEGER = 2**63 - 1
METADATA_KEYS, METADATA_NAME, METADATA_VALUE = 50, 40, 500

_NAME = re.compile(r"[^\[\]]+(?:\[[^\[\]]*\])*")
_SEGMENT = re.compile(r"[^\[\]]+|\[\]")
_INTEGER = re.compile(r"-?[0-9]{1,19}")


def parse(encoded: str) -> dict[str, Any]:
    """Raises RefusedError for what cannot be nested."""
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise invalid("Invalid request: the body is no form in UTF-8.") from None
    parsed: dict[str, Any] = {}
    for name, value in pairs:
        _put(parsed, name, value)
    return parsed


def _put(parsed: dict[str, Any], name: str, value: str) -> None:
    segments = _SEGMENT.findall(name)
    if not _NAME.fullmatch(name) or len(segments) > MAX_DEPTH or "\0" in name + value:
        raise invalid(f"Invalid request: the parameter name {name[:100]!r} is malformed.")
    inner = parsed
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        key = str(len(inner)) if segment == "[]" else segment
        if following is None:
            if isinstance(inner.get(key), dict):
                raise invalid(f"Invalid request: {name[:100]!r} is given both as a value and as a group.")
            inner[key] = value
            return
        nested = inner.setdefault(key, {})
        if not isinstance(nested, dict):
            raise invalid(f"Invalid request: {name[:100]!r} is given both as a value and as a group.")
        inner = nested


class Params:
    """The parameters of one call, or of one group within it. An empty text counts as absent but where it unsets."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path
        self._read: set[str] = set()
        self._groups: dict[str, Params] = {}

    def has(self, name: str) -> bool:
        return name in self._values

    def is_text(self, name: str) -> bool:
        return isinstance(self._values.get(name), str)

    def text(self, name: str, longest: int = LONGEST_TEXT) -> str | None:
        """None where it is absent or empty."""
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise invalid(f"Invalid string: {self._full(name)}", self._full(name))
        if len(value) > longest:
            raise invalid(f"Invalid string: must be at most {longest} characters", self._full(name))
        return value or None

    def need(self, name: str, longest: int = LONGEST_TEXT) -> str:
        value = self.text(name, longest)
        if value is None:
            raise missing(self._full(name))
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        value = self.text(name)
        if value is not None and value not in choices:
            wanted = ", ".join(choices)
            raise invalid(f"Invalid {self._full(name)}: must be one of {wanted}", self._full(name))
        return value or default

    def integer(self, name: str, least: int = -LARGEST_INTEGER, most: int = LARGEST_INTEGER) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise invalid(f"Invalid integer: {value[:50]}", self._full(name), "parameter_invalid_integer")
        if not least <= int(value) <= most:
            raise invalid(f"Invalid {self._full(name)}: must be between {least} and {most}", self._full(name))
        return int(value)

    def need_integer(self, name: str, least: int = -LARGEST_INTEGER, most: int = LARGEST_INTEGER) -> int:
        value = self.integer(name, least, most)
        if value is None:
            raise missing(self._full(name))
        return value

    def decimal(self, name: str) -> Decimal | None:
        """A price in cents, with at most 12 decimal places."""
        value = self.text(name)
        if value is None:
            return None
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("nan")
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or not -12 <= exponent <= 0 or not 0 <= number < 10**8:
            raise invalid(f"Invalid decimal: {value[:50]}; at most 12 decimal places", self._full(name))
        return number

    def boolean(self, name: str) -> bool | None:
        value = self.text(name)
        if value is not None and value not in ("true", "false"):
            raise invalid(f"Invalid boolean: {value[:50]}", self._full(name))
        return None if value is None else value == "true"

    def texts(self, name: str) -> list[str]:
        value = self._take(name)
        if value is None or value == "":
            return []
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise invalid("Invalid array", self._full(name))
        return list(value.values())

    def group(self, name: str) -> "Params":
        """An empty group where it is absent."""
        value = self._take(name)
        if value is None or value == "":
            value = {}
        if not isinstance(value, dict):
            raise invalid("Invalid object", self._full(name))
        return self._nested(value, self._full(name))

    def groups(self, name: str) -> "list[Params]":
        """An array of groups, in its order."""
        value = self._take(name)
        if value is None or value == "":
            return []
        if not isinstance(value, dict) or not all(
            key.isdecimal() and key.isascii() and isinstance(one, dict) for key, one in value.items()
        ):
            raise invalid("Invalid array", self._full(name))
        return [
            self._nested(one, f"{self._full(name)}[{key}]")
            for key, one in sorted(value.items(), key=lambda entry: int(entry[0]))
        ]

    def metadata(self, known: dict[str, str] | None = None, name: str = "metadata") -> dict[str, str]:
        """What is known with what is given: an empty value removes one, an empty group all."""
        value = self._take(name)
        if value is None:
            return {**(known or {})}
        if value == "":
            return {}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise invalid("Metadata is a set of keys and texts", self._full(name))
        merged = {key: one for key, one in {**(known or {}), **value}.items() if one != ""}
        if len(merged) > METADATA_KEYS or any(
            len(key) > METADATA_NAME or len(one) > METADATA_VALUE for key, one in merged.items()
        ):
            raise invalid("Metadata has at most 50 keys of 40 characters, with values of 500", self._full(name))
        return merged

    def pass_over(self, *names: str) -> None:
        """Stripe knows these, and they change nothing here."""
        for name in names:
            self._take(name)

    def names(self) -> set[str]:
        """Of all that is given, which is not read by this."""
        return {*self._values}

    def plain(self) -> dict[str, Any]:
        """All that is given, as it was sent."""
        self._read.update(self._values)
        return self._values

    def finish(self) -> None:
        """Raises RefusedError when something was given that nobody read."""
        for name in self._values:
            if name not in self._read:
                raise unknown(self._full(name))
        for group in self._groups.values():
            group.finish()

    def _take(self, name: str) -> Any:
        self._read.add(name)
        return self._values.get(name)

    def _full(self, name: str) -> str:
        return f"{self._path}[{name}]" if self._path else name

    def _nested(self, values: dict[str, Any], path: str) -> "Params":
        """The same for the same path, so that two that read of it have read all of it together."""
        return self._groups.setdefault(path, Params(values, path))
