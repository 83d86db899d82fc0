"""What a batch's jobs are read from: its input, and the reader for the input's form."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, BinaryIO

from common import csv_jobs, jsonl_rows, models, storage
from common.batch_input import CsvInput
from common.errors import LineError
from common.input_rows import InputRow
from common.intake import Intake
from common.plans import Plan
from common.reservations import Reserver

# Gives the input from its start, each time it is called.
OpenInput = Callable[[], AbstractContextManager[BinaryIO]]


def intake(
    open_input: OpenInput,
    *,
    limits: Plan,
    endpoint: str,
    model: str | None = None,
    csv_input: dict[str, Any] | None = None,
    skip: bool = False,
    priced: bool = False,
) -> Intake:
    """The intake of a batch's input; `csv_input` and `model` are those of a CSV. `priced` as for a Reserver."""
    reserver = Reserver(endpoint, limits, priced=priced)
    read: Callable[[BinaryIO], Iterator[InputRow]]
    ids_unique = False
    if csv_input is not None and model is not None:
        parsed = CsvInput.from_json(csv_input)
        read = partial(csv_jobs.read, csv_input=parsed, model=model, reserver=reserver)
        ids_unique = not parsed.names_rows
    else:
        is_allowed = partial(models.is_allowed, limits)
        read = partial(jsonl_rows.read, endpoint=endpoint, is_allowed=is_allowed, reserver=reserver)
    return Intake(partial(_rows, open_input, read), limits.max_rows, limits.name, skip, ids_unique)


def _rows(open_input: OpenInput, read: Callable[[BinaryIO], Iterator[InputRow]]) -> Iterator[InputRow]:
    try:
        with open_input() as file:
            yield from read(file)
    except FileNotFoundError:
        message = "the input file is no longer stored: upload it again"
        yield LineError("input_missing", 1, message, "file")


def stored(storage_key: str | None) -> OpenInput:
    """An input in storage, or one whose content is gone."""

    def open_input() -> AbstractContextManager[BinaryIO]:
        if storage_key is None:
            raise FileNotFoundError
        return storage.open_content(storage_key)

    return open_input


def sent(content: BinaryIO) -> OpenInput:
    """An input that a request carries; it stays open."""

    @contextmanager
    def open_input() -> Iterator[BinaryIO]:
        content.seek(0)
        yield content

    return open_input
