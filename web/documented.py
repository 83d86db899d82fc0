"""What is said of a view, beside it, for the OpenAPI document."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from web.queries import Query

ViewT = TypeVar("ViewT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a view answers with: JSON of this shape, or content of these media types, and headers of its own."""

    shape: Any = None
    media: Iterable[str] = ()
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FileForm:
    """A multipart form: a `file` of this media type, and these fields beside it."""

    form: type[BaseModel]
    media: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """What is said of a view; see documented."""

    summary: str
    answers: Mapping[int, Answer]
    query: type[Query] | None
    json: Sequence[type[BaseModel]]
    upload: FileForm | None
    headers: Sequence[str]
    refuses: Sequence[int]

    @property
    def shapes(self) -> Iterator[Any]:
        """Every type of a body, sent or answered."""
        yield from (answer.shape for answer in self.answers.values() if answer.shape is not None)
        yield from self.json
        if self.upload is not None:
            yield self.upload.form


def documented(
    summary: str,
    answers: Mapping[int, Any],
    *,
    query: type[Query] | None = None,
    json: Sequence[type[BaseModel]] = (),
    upload: FileForm | None = None,
    headers: Sequence[str] = (),
    refuses: Sequence[int] = (),
) -> Callable[[ViewT], ViewT]:
    """Says of a view what it takes and answers; its docstring says the rest.

    `answers` has for each status a type of web/schemas.py, or an Answer. `json` are the forms of which a JSON body is
    one, and `headers` those that the view reads. `refuses` are the statuses of its own errors: those that follow from
    what it takes are known.
    """
    found = {status: answer if isinstance(answer, Answer) else Answer(answer) for status, answer in answers.items()}
    operation = Operation(summary, found, query, json, upload, headers, refuses)

    def decorate(view: ViewT) -> ViewT:
        # Whatever is wrapped around the view carries this on.
        vars(view)["documented"] = operation
        return view

    return decorate
