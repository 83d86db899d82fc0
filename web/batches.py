"""/v1/batches: many jobs submitted together."""

from typing import Any, BinaryIO, cast

from flask import Blueprint, Response, jsonify, request
from werkzeug.datastructures import FileStorage

from common import batches, csv_dialect, ids, json_text, queue
from common.batch_input import CsvInput
from common.errors import Conflict, InvalidRequest
from web import downloads, forms, render
from web.auth import caller, requires

blueprint = Blueprint("batches", __name__, url_prefix="/v1/batches")

# A form's fields are text; these are read as JSON, and a field that is none is left for the form to name.
JSON_FIELDS = frozenset({"max_tokens", "max_completion_tokens", "temperature", "response_format", "metadata"})
MAX_FILENAME_CHARACTERS = 255


@blueprint.post("")
@requires("batches")
def create() -> tuple[Response, int]:
    """Accepts a CSV of prompts: 202 with a batch that is being validated."""
    if request.mimetype != "multipart/form-data":
        raise InvalidRequest("Send a multipart form: a CSV as file, with the fields model and prompt.", param="file")
    upload = _upload()
    content = cast(BinaryIO, upload.stream)
    form = forms.parse(forms.CsvBatch, _fields())
    csv_input = CsvInput(csv_dialect.detect(content), form.prompt, form.system, form.body_fields())
    # Made here for its errors alone: ingest makes it again where the rows are.
    csv_input.body_template(form.model)
    batch_id = batches.create_from_csv(caller(), form.model, csv_input, _filename(upload), content, form.metadata)
    queue.enqueue_ingest(batch_id)
    shown_id = ids.show("batch_", batch_id)
    response = jsonify(render.batch(batches.get(caller().account_id, shown_id)))
    response.headers["Location"] = f"/v1/batches/{shown_id}"
    return response, 202


def _upload() -> FileStorage:
    """The one file of the form. Raises InvalidRequest."""
    unknown = [name for name in request.files if name != "file"]
    if unknown:
        raise InvalidRequest(f"There is no file field {unknown[0]!r} here: the CSV goes into 'file'.", param=unknown[0])
    uploads = request.files.getlist("file")
    if len(uploads) != 1:
        raise InvalidRequest("Send one CSV file in the field 'file'.", param="file", code="missing")
    return uploads[0]


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, values in request.form.lists():
        if len(values) > 1:
            raise InvalidRequest(f"{name} is there {len(values)} times: send it once.", param=name)
        fields[name] = _json_or_text(values[0]) if name in JSON_FIELDS else values[0]
    return fields


def _json_or_text(value: str) -> Any:
    try:
        return json_text.loads(value)
    except ValueError:
        return value


def _filename(upload: FileStorage) -> str:
    name = (upload.filename or "upload.csv").encode("utf-8", "replace").decode()
    return (
        "".join(character for character in name if character.isprintable())[-MAX_FILENAME_CHARACTERS:] or "upload.csv"
    )


@blueprint.get("")
@requires("batches")
def list_batches() -> Response:
    limit, after = forms.page()
    return jsonify(render.page(batches.list_bulk(caller().account_id, after, limit + 1), limit, render.batch))


@blueprint.get("/<batch_id>")
@requires("batches")
def get(batch_id: str) -> Response:
    return jsonify(render.batch(batches.get(caller().account_id, batch_id)))


@blueprint.get("/<batch_id>/results")
@requires("batches")
def results(batch_id: str) -> Response:
    """Every row in input order, ended or not, as CSV or JSON lines."""
    batch = batches.get(caller().account_id, batch_id)
    form = request.args.get("format", "csv" if batch.kind == "csv" else "jsonl")
    if form not in downloads.FORMATS:
        raise InvalidRequest(f"format is one of {', '.join(downloads.FORMATS)}.", param="format")
    if batch.state == "validating":
        raise Conflict("The batch is still being validated: its rows are not known yet.", param="batch_id")
    return downloads.response(caller().account_id, batch, form)


@blueprint.post("/<batch_id>/cancel")
@requires("batches")
def cancel(batch_id: str) -> Response:
    batch = batches.cancel(caller().account_id, batch_id)
    if batch.state == "cancelling":
        queue.enqueue_close(batch.id)
    return jsonify(render.batch(batch))
