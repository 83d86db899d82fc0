"""Reading multipart forms: one file and some fields."""

from collections.abc import Collection
from typing import Any

from flask import request
from werkzeug.datastructures import FileStorage

from common import json_text
from common.errors import InvalidRequest

MAX_FILENAME_CHARACTERS = 255


def one_file(cure: str) -> FileStorage:
    """The one file of the form, in the field `file`. Raises InvalidRequest."""
    if request.mimetype != "multipart/form-data":
        raise InvalidRequest(f"Send a multipart form: {cure}", param="file")
    unknown = [name for name in request.files if name != "file"]
    if unknown:
        raise InvalidRequest(f"There is no file field {unknown[0]!r} here: {cure}", param=unknown[0])
    uploads = request.files.getlist("file")
    if len(uploads) != 1:
        raise InvalidRequest(f"Send one file in the field 'file': {cure}", param="file", code="missing")
    return uploads[0]


def fields(json_fields: Collection[str]) -> dict[str, Any]:
    """The other fields of the form. A form's fields are text; these are read as JSON, and one that is none is left for
    the form to name. Raises InvalidRequest for a field that is there twice."""
    found: dict[str, Any] = {}
    for name, values in request.form.lists():
        if len(values) > 1:
            raise InvalidRequest(f"{name} is there {len(values)} times: send it once.", param=name)
        found[name] = _json_or_text(values[0]) if name in json_fields else values[0]
    return found


def _json_or_text(value: str) -> Any:
    try:
        return json_text.loads(value)
    except ValueError:
        return value


def filename(upload: FileStorage, default: str) -> str:
    """The name the customer gave, without what cannot be stored or shown."""
    name = (upload.filename or default).encode("utf-8", "replace").decode()
    return "".join(character for character in name if character.isprintable())[-MAX_FILENAME_CHARACTERS:] or default
