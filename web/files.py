"""/v1/files: inputs, and the outputs and errors of batches."""

from datetime import timedelta

from flask import Blueprint, Response, jsonify

from common import files
from common.errors import InvalidRequest
from common.files import File
from web import downloads, forms, queries, render, schemas, uploads
from web.auth import caller, requires
from web.documented import Answer, FileForm, documented

blueprint = Blueprint("files", __name__, url_prefix="/files")


@blueprint.post("")
@requires("files")
@documented("Upload a file", {200: schemas.File}, upload=FileForm(forms.UploadFile))
def create() -> Response:
    """Stores an input file, sent as a multipart form."""
    upload = uploads.one_file("the file goes into 'file'.", "upload.jsonl")
    form = forms.parse(forms.UploadFile, uploads.fields(json_fields={forms.SECONDS}))
    if (form.anchor is None) != (form.seconds is None):
        message = f"Send both {forms.ANCHOR} and {forms.SECONDS}, or neither."
        raise InvalidRequest(message, param="expires_after", code="missing")
    expires_after = timedelta(seconds=form.seconds) if form.seconds is not None else None
    return jsonify(render.file(files.create(caller(), upload.filename, upload.content, expires_after)))


@blueprint.get("")
@requires("files")
@documented("List files", {200: schemas.Page[schemas.File]}, query=queries.FileList)
def list_files() -> Response:
    query = queries.read(queries.FileList)
    newest_first = query.order == "desc"
    found = files.list_page(caller().account_id, query.after, query.limit + 1, newest_first, query.purpose)
    return jsonify(render.page(found, query.limit, render.file))


@blueprint.get("/<file_id>")
@requires("files")
@documented("Get a file", {200: schemas.File})
def get(file_id: str) -> Response:
    return jsonify(render.file(_get(file_id)))


@blueprint.get("/<file_id>/content")
@requires("files")
@documented(
    "Download a file",
    {200: Answer(media=("application/octet-stream",), headers=("Content-Disposition", "X-Incomplete", "X-Last-Line"))},
    query=queries.Content,
)
def content(file_id: str) -> Response:
    """What is stored, or the lines of a batch; of one that runs, the finished beginning."""
    query = queries.read(queries.Content)
    file = _get(file_id)
    if file.storage_key is not None:
        return downloads.stored(file, file.storage_key)
    return downloads.lines(caller().account_id, file, query.offset)


@blueprint.delete("/<file_id>")
@requires("files")
@documented("Delete a file", {200: schemas.DeletedFile})
def delete(file_id: str) -> Response:
    files.delete(caller().account_id, file_id)
    return jsonify({"id": file_id, "object": "file", "deleted": True})


def _get(file_id: str) -> File:
    return files.get(caller().account_id, file_id)
