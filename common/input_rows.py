"""The rows of a batch's input as its readers give them, whatever the form of the file."""

import msgspec

from common.errors import LineError

MAX_CUSTOM_ID_CHARACTERS = 512


class JobRow(msgspec.Struct, gc=False):
    """A row that is a job. `line` counts from 1; `body` is the provider's JSON; `tokens` and `cost`, in nano-dollars,
    are what is held for it."""

    line: int
    custom_id: str
    body: bytes
    tokens: int = 0
    cost: int = 0


class BadRow(msgspec.Struct, gc=False):
    """A row that cannot run. It `fails_alone`, or the whole input does unless its customer asked to skip such rows."""

    error: LineError
    custom_id: str
    body: bytes = b""
    fails_alone: bool = False
    # What was held for it as a job, where it was one before it turned out to be repeated.
    tokens: int = 0
    cost: int = 0


# A LineError among the rows is about the file itself: nothing of it can run.
InputRow = JobRow | BadRow | LineError


def custom_id_problem(line: int, custom_id: str) -> LineError | None:
    if not custom_id.strip():
        message = f"line {line} has no custom_id: give the row one of its own"
        return LineError("missing_custom_id", line, message, "custom_id")
    if len(custom_id) > MAX_CUSTOM_ID_CHARACTERS:
        message = f"line {line} has a custom_id of over {MAX_CUSTOM_ID_CHARACTERS} characters: shorten it"
        return LineError("invalid_custom_id", line, message, "custom_id")
    return None
