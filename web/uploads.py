"""Reading multipart forms: one file and some fields."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from flask import request

from common import json_text
from common.errors import InvalidRequest

MAX_FILENAME_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form, and the name that the customer gave it."""

    content: BinaryIO
    filename: str


def one_file(cure: str, default_filename: str) -> Upload:
    """The one file of the form, in the field `file`. Raises InvalidRequest."""
    if request.mimetype != "multipart/form-data":
        raise InvalidRequest(f"Send a multipart form: {cure}", param="file")
    unknown = [name for name in request.files if name != "file"]
    if unknown:
        raise InvalidRequest(f"There is no file field {unknown[0]!r} here: {cure}", param=unknown[0])
    uploads = request.files.getlist("file")
    if len(uploads) != 1:
        raise InvalidRequest(f"Send one file in the field 'file': {cure}", param="file", code="missing")
    content = cast(BinaryIO, uploads[0].stream)
    return Upload(content, _storable(uploads[0].filename or "") or default_filename)


def _storable(filename: str) -> str:
    """The name without what cannot be stored or shown."""
    name = filename.encode("utf-8", "replace").decode()
    return "".join(character for character in name if character.isprintable())[-MAX_FILENAME_CHARACTERS:]


def fields(json_fields: Collection[str], list_fields: Collection[str] = ()) -> dict[str, Any]:
    """The other fields of the form. A form's fields are text; `json_fields` are read as JSON, and one that is none, or
    null, is left for the form to name. `list_fields` may be there several times; for any other field that is, raises
    InvalidRequest."""
    found: dict[str, Any] = {}
    for name, values in request.form.lists():
        if name in list_fields:
            found[name] = values
            continue
        if len(values) > 1:
            raise InvalidRequest(f"{name} is there {len(values)} times: send it once.", param=name)
        found[name] = _json_or_text(values[0]) if name in json_fields else values[0]
    return found


def _json_or_text(value: str) -> Any:
    try:
        found = json_text.loads(value)
    except ValueError:
        return value
    return value if found is None else found
