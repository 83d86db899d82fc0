"""A prompt with `{{column}}` in it, filled from a row of the customer's file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from common.errors import InvalidRequest

_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")

# An error that lists the file's columns lists so many of them.
_COLUMNS_LISTED = 50


@dataclass(frozen=True, slots=True)
class Template:
    """Text and columns in turn: literals[0], column indexes[0], literals[1], ... so there is one literal more."""

    literals: tuple[str, ...]
    indexes: tuple[int, ...]

    @classmethod
    def parse(cls, text: str, columns: Sequence[str], param: str = "prompt") -> Self:
        """Compile `text` against the columns of a file. Blanks just inside the braces, and around a name, do not count.

        A name is any text without braces; single braces, and `}}` alone, stand for themselves. Raises InvalidRequest,
        about `param`, for an empty text, a `{{` that is not closed, and a name that is no column or is two.
        """
        if not text.strip():
            raise InvalidRequest(f"'{param}' is empty: write the text to send for each row.", param=param)
        # With one group, split gives literal, name, literal, name, ..., literal.
        parts = _PLACEHOLDER.split(text)
        literals, names = parts[::2], parts[1::2]
        for literal in literals:
            if (at := literal.find("{{")) >= 0:
                raise InvalidRequest(
                    f"'{param}' opens {literal[at : at + 20]!r} with '{{{{' and does not close it: "
                    "write a column as {{column}}, on one level and without braces in its name.",
                    param=param,
                )
        # Once for all names: a file may have as many columns as the text has placeholders, and both many.
        indexes: dict[str, list[int]] = {}
        for index, column in enumerate(columns):
            indexes.setdefault(column.strip(), []).append(index)
        return cls(tuple(literals), tuple(_index(name.strip(), indexes, columns, param) for name in names))

    def render(self, row: Sequence[str]) -> str:
        """The text for one row, which has as many cells as the file has columns."""
        parts = [self.literals[0]]
        for index, literal in zip(self.indexes, self.literals[1:], strict=True):
            parts.append(row[index])
            parts.append(literal)
        return "".join(parts)


def _index(name: str, indexes: Mapping[str, Sequence[int]], columns: Sequence[str], param: str) -> int:
    found = indexes.get(name, ())
    if len(found) == 1 and name:
        return found[0]
    if not name:
        problem = "has '{{}}' with no column named in it"
    elif found:
        problem = f"names the column {name!r}, which the file has {len(found)} times: rename all but one"
    else:
        problem = f"names the column {name!r}, which the file does not have"
    raise InvalidRequest(f"'{param}' {problem}. Its columns are: {_listed(columns)}.", param=param)


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(repr(column) for column in columns[:_COLUMNS_LISTED])
    rest = len(columns) - _COLUMNS_LISTED
    return f"{shown} and {rest:,} more" if rest > 0 else shown
