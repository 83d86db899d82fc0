"""The JSON body of a chat completion for each row of a file, built in about the time it takes to copy it.

All of the body but the cells that the templates name is the same for every row. It is written as JSON once, and for
each row the cells are escaped and set between its pieces.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from pydantic_core import to_json

from common.prompt_template import Template


class BodyTemplate:
    """`{"model", "messages": [system?, user], **options}` with the two messages' text from templates.

    What it renders equals `json.dumps(body, ensure_ascii=False, separators=(",", ":"))` of that body, in UTF-8, to the
    byte.
    """

    def __init__(
        self, *, model: str, prompt: Template, system: Template | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        messages = [("system", system)] if system else []
        messages.append(("user", prompt))
        pieces = [f'{{"model":{_json(model)},"messages":[']
        indexes: list[int] = []
        for role, template in messages:
            first, *rest = map(_escaped, template.literals)
            pieces[-1] += f'{{"role":"{role}","content":"{first}'
            pieces += rest
            pieces[-1] += '"},'
            indexes += template.indexes
        pieces[-1] = pieces[-1].removesuffix(",") + "]" + _members(options or {}) + "}"
        encoded = [piece.encode("utf-8", "surrogatepass") for piece in pieces]
        self._start = encoded[0]
        self._rest = tuple(zip(indexes, encoded[1:], strict=True))
        self._indexes = tuple(indexes)
        self._fixed = sum(map(len, pieces))
        # If the prompt says something of its own, no row leaves it empty, and no cell need be looked at.
        self._prompt_indexes = () if "".join(prompt.literals).strip() else prompt.indexes

    def least_characters(self, row: Sequence[str]) -> int:
        """A bound from below of the body's length, found without building it: a template can name a long cell often."""
        # A list, since this is done for each row: a generator takes twice the time.
        return self._fixed + sum([len(row[index]) for index in self._indexes])

    def render(self, row: Sequence[str]) -> tuple[bytes, bool]:
        """The body for a row, as JSON, and whether its prompt is empty: such a row is not worth a call."""
        parts = [self._start]
        for index, piece in self._rest:
            # A cell comes from a file, which holds no half of a surrogate pair: this serializer would refuse one.
            parts.append(to_json(row[index])[1:-1])
            parts.append(piece)
        body = b"".join(parts)
        for index in self._prompt_indexes:
            if row[index].strip():
                return body, False
        return body, bool(self._prompt_indexes)


def _members(options: Mapping[str, Any]) -> str:
    return "".join(chain.from_iterable((",", _json(name), ":", _json(value)) for name, value in options.items()))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _escaped(text: str) -> str:
    return _json(text)[1:-1]
