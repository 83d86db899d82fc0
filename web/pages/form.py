"""A page's form: what was typed into it, and what is wrong with that."""

from collections.abc import Mapping
from typing import Any, Self

from flask import render_template, request

from common import json_text
from common.errors import BatchyardError, InvalidRequest
from web.errors import status_of

EMPTY = "Fill this in."


class Form:
    """Errors stand beside the fields that they are about; one that is about none of them is the form's problem. The
    fields are named as the verbs name what they take."""

    def __init__(self, *names: str) -> None:
        self.values: Mapping[str, str] = {}
        self.errors: dict[str, str] = {}
        self.problem: str | None = None
        self._names = names

    @classmethod
    def sent(cls, *names: str) -> Self:
        """The form as this request brings it."""
        form = cls(*names)
        form.values = {name: request.form.get(name, "") for name in names}
        return form

    def __getitem__(self, name: str) -> str:
        """What was typed into a field. Raises InvalidRequest where that is nothing, or cannot be kept."""
        value = self.values[name]
        if json_text.is_blank(value):
            raise InvalidRequest(EMPTY, param=name)
        if not json_text.is_storable(value):
            raise InvalidRequest("This holds a character that cannot be kept: leave it out.", param=name)
        return value

    def again(self, error: BatchyardError, template: str, **values: Any) -> tuple[str, int]:
        """The page once more, with what was typed and what a verb refused of it."""
        if error.param in self._names:
            self.errors[error.param] = error.message
        else:
            self.problem = error.message
        # All of them at once: who fills one in does not want to hear of the next.
        self.errors |= {name: EMPTY for name, value in self.values.items() if json_text.is_blank(value)}
        return render_template(template, **{"form": self} | values), status_of(error)

    @property
    def first_wrong(self) -> str | None:
        """The field to begin with."""
        return next((name for name in self._names if name in self.errors), None)


def no_good_link(error: BatchyardError) -> tuple[str, int]:
    """The page in the place of one to which a mail's link led, or of what was to be done there."""
    return render_template("no_good_link.html", text=error.message), status_of(error)
