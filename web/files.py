"""/v1/files: inputs, and the outputs and errors of batches."""

from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, jsonify, request

from common import files
from common.errors import InvalidRequest
from common.files import File
from web import downloads, forms, render, uploads
from web.auth import caller, requires

blueprint = Blueprint("files", __name__, url_prefix="/files")


@blueprint.post("")
@requires("files")
def create() -> Response:
    """Stores an input file, sent as a multipart form."""
    upload = uploads.one_file("the file goes into 'file'.", "upload.jsonl")
    form = forms.parse(forms.UploadFile, _fields())
    seconds = form.expires_after.seconds if form.expires_after is not None else None
    expires_after = timedelta(seconds=seconds) if seconds is not None else None
    return jsonify(render.file(files.create(caller(), upload.filename, upload.content, expires_after)))


def _fields() -> dict[str, Any]:
    """The form's fields; those named `expires_after[...]` are one object."""
    fields: dict[str, Any] = uploads.fields(json_fields=frozenset({"expires_after[seconds]"}))
    parts = {part: fields.pop(name) for part in ("anchor", "seconds") if (name := f"expires_after[{part}]") in fields}
    if parts:
        fields["expires_after"] = parts
    return fields


@blueprint.get("")
@requires("files")
def list_files() -> Response:
    limit, after = forms.page(forms.MAX_FILES_PAGE, forms.MAX_FILES_PAGE)
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order is asc or desc.", param="order")
    found = files.list_page(caller().account_id, after, limit + 1, order == "desc", forms.query_text("purpose"))
    return jsonify(render.page(found, limit, render.file))


@blueprint.get("/<file_id>")
@requires("files")
def get(file_id: str) -> Response:
    return jsonify(render.file(_get(file_id)))


@blueprint.get("/<file_id>/content")
@requires("files")
def content(file_id: str) -> Response:
    """What is stored, or the lines of a batch; of one that runs, the finished beginning."""
    file = _get(file_id)
    if file.storage_key is not None:
        return downloads.stored(file, file.storage_key)
    return downloads.lines(caller().account_id, file, forms.whole_number("offset", default=0))


@blueprint.delete("/<file_id>")
@requires("files")
def delete(file_id: str) -> Response:
    files.delete(caller().account_id, file_id)
    return jsonify({"id": file_id, "object": "file", "deleted": True})


def _get(file_id: str) -> File:
    return files.get(caller().account_id, file_id)
