"""/v1/batches: many jobs submitted together."""

from typing import Literal
from uuid import UUID

from flask import Blueprint, Response, jsonify, request

from common import (
    batch_pauses,
    batch_source,
    batches,
    csv_dialect,
    estimates,
    files,
    ids,
    models,
    queue,
    queue_position,
    results,
)
from common.batch_input import CsvInput
from common.batches import Batch, Options
from common.endpoints import CHAT
from common.errors import Conflict, InvalidRequest, NotFound
from common.intake import Intake
from common.reservations import Reserver
from common.shared_thread import in_native_thread
from common.together import apart
from web import downloads, forms, queries, render, schemas, uploads
from web.auth import caller, requires
from web.documented import Answer, FileForm, documented
from web.uploads import Upload

blueprint = Blueprint("batches", __name__, url_prefix="/batches")

LIST_FIELDS = frozenset({"webhook_events"})
JSON_FIELDS = frozenset({"max_tokens", "max_completion_tokens", "temperature", "response_format", "metadata"})
CSV = FileForm(forms.CsvBatch, "text/csv")
CSV_CURE = "a CSV as file, with the fields model and prompt."


@blueprint.post("")
@requires("batches", key=True)
@documented(
    "Create a batch",
    {200: Answer(schemas.Batch, headers=("Location",)), 202: Answer(schemas.Batch, headers=("Location",))},
    json=(forms.CreateBatch,),
    upload=CSV,
    refuses=(404, 409),
)
def create() -> tuple[Response, int]:
    """Accepts a batch, which is validated behind the answer: of a file or of requests, as the Batch API has it (200),
    or of a CSV of prompts (202)."""
    if request.mimetype == "application/json":
        batch_id, status = _create(), 200
    else:
        batch_id, status = _create_from_csv(), 202
    shown_id = ids.show("batch_", batch_id)
    # Before anybody is told of it: it is validating, however soon it is read.
    response = _shown(batches.get(caller().account_id, shown_id))
    response.headers["Location"] = f"/v1/batches/{shown_id}"
    queue.enqueue_ingest(batch_id)
    return response, status


def _shown(batch: Batch) -> Response:
    return jsonify(render.batch(batch, queue_position.of(caller().account_id, batch)))


def _create() -> UUID:
    form = _form()
    if form.requests is not None:
        return batches.create_inline(caller(), _options(form, "inline"), form.requests)
    return batches.create(caller(), _options(form, "jsonl"), form.input_file_id or "")


def _form() -> forms.CreateBatch:
    """What a JSON body says. Raises InvalidRequest."""
    form = forms.parse(forms.CreateBatch, forms.json_object())
    if (form.input_file_id is None) == (form.requests is None):
        message = "Send either input_file_id, the id of an uploaded file, or requests, a list."
        raise InvalidRequest(message, param="input_file_id", code="missing")
    batches.window(form.completion_window)
    forms.webhook(form)
    return form


def _options(form: forms.CreateBatch, kind: Literal["jsonl", "inline"]) -> Options:
    expiry = form.output_expires_after
    return Options(
        kind=kind,
        endpoint=form.endpoint,
        completion_window=form.completion_window,
        on_error=form.on_error,
        results_seconds=expiry.seconds if expiry is not None else None,
        metadata=form.metadata,
        max_cost=form.max_cost,
        webhook=forms.webhook(form),
    )


def _create_from_csv() -> UUID:
    upload, form, csv_input = _read_csv()
    return batches.create_from_csv(
        caller(), form.model, csv_input, upload.filename, upload.content, form.metadata, form.max_cost,
        forms.webhook(form),
    )  # fmt: skip


def _read_csv() -> tuple[Upload, forms.CsvBatch, CsvInput]:
    upload = uploads.one_file(CSV_CURE, "upload.csv")
    form = forms.parse(forms.CsvBatch, uploads.fields(JSON_FIELDS, LIST_FIELDS))
    models.check(caller().limits, form.model)
    fields = Reserver(CHAT, caller().limits).bounded(form.body_fields())
    csv_input = CsvInput(in_native_thread(csv_dialect.detect, upload.content), form.prompt, form.system, fields)
    # Made here for its errors alone: ingest makes it again where the rows are.
    csv_input.body_template(form.model)
    forms.webhook(form)
    return upload, form, csv_input


@blueprint.post("/estimate")
@requires("batches")
# It writes nothing and may read for minutes: no transaction of its request stays open over that.
@apart()
@documented(
    "Estimate a batch",
    {200: schemas.BatchEstimate},
    json=(forms.CreateBatch,),
    upload=CSV,
    refuses=(404,),
)
def estimate() -> Response:
    """What a batch would be, with all its errors; sent as for its creation."""
    intake, max_cost = _intake() if request.mimetype == "application/json" else _csv_intake()
    found = estimates.estimate(caller(), intake, max_cost)
    return jsonify(render.estimate(found, caller().limits))


def _priced(max_cost: int | None) -> bool:
    return max_cost is not None or caller().hard_cap is not None


def _intake() -> tuple[Intake, int | None]:
    form = _form()
    if form.requests is not None:
        open_input = batch_source.sent(batches.as_jsonl(form.endpoint, form.requests))
    else:
        file = files.get(caller().account_id, form.input_file_id or "", "input_file_id")
        open_input = batch_source.stored(file.storage_key)
    intake = batch_source.intake(
        open_input,
        limits=caller().limits,
        endpoint=form.endpoint,
        skip=form.on_error == "skip",
        priced=_priced(form.max_cost),
    )
    return intake, form.max_cost


def _csv_intake() -> tuple[Intake, int | None]:
    upload, form, csv_input = _read_csv()
    intake = batch_source.intake(
        batch_source.sent(upload.content),
        limits=caller().limits,
        endpoint=CHAT,
        model=form.model,
        csv_input=csv_input.to_json(),
        priced=_priced(form.max_cost),
    )
    return intake, form.max_cost


@blueprint.get("")
@requires("batches")
@documented("List batches, newest first", {200: schemas.Page[schemas.ListedBatch]}, query=queries.BatchList)
def list_batches() -> Response:
    query = queries.read(queries.BatchList)
    found = batches.list_bulk(caller().account_id, query.after, query.limit + 1)
    return jsonify(render.page(found, query.limit, render.listed_batch))


@blueprint.get("/<batch_id>")
@requires("batches")
@documented("Get a batch", {200: schemas.Batch})
def get(batch_id: str) -> Response:
    return _shown(batches.get(caller().account_id, batch_id))


@blueprint.get("/<batch_id>/results")
@requires("batches")
@documented(
    "List the rows of a batch with their results",
    {200: Answer(schemas.Page[schemas.Row], downloads.FORMATS.values(), headers=("Content-Disposition",))},
    query=queries.Results,
    refuses=(409,),
)
def list_results(batch_id: str) -> Response:
    """A page of rows in input order; with `format`, every row as CSV or JSON lines."""
    query = queries.read(queries.Results)
    batch = batches.get(caller().account_id, batch_id)
    if batch.state == "validating":
        raise Conflict("The batch is still being validated: its rows are not known yet.", param="batch_id")
    if batch.results_gone:
        raise NotFound(batches.ROWS_DELETED, param="batch_id")
    if query.format is not None:
        if of_pages := query.model_fields_set - {"format"}:
            name = min(of_pages)
            raise InvalidRequest(f"A download has every row: leave out {name}, or format for a page.", param=name)
        return downloads.response(caller().account_id, batch, query.format)
    seq = -1 if query.after is None else results.parse_row_id(batch.id, query.after)
    rows = results.list_page(caller().account_id, batch.id, query.custom_id, query.status, seq, query.limit + 1)
    return jsonify(render.page(rows, query.limit, lambda row: render.listed_row(batch, row)))


@blueprint.post("/<batch_id>/cancel")
@requires("batches")
@documented("Cancel a batch", {200: schemas.Batch}, refuses=(409,))
def cancel(batch_id: str) -> Response:
    """Nothing new starts, calls in flight are stopped, and finished rows stay."""
    batch = batches.cancel(caller().account_id, batch_id)
    if batch.state == "cancelling":
        queue.enqueue_close(batch.id)
    return _shown(batch)


@blueprint.post("/<batch_id>/pause")
@requires("batches")
@documented("Pause a batch", {200: schemas.Batch}, refuses=(409,))
def pause(batch_id: str) -> Response:
    """Nothing new starts until the batch is resumed; calls in flight end, and finished rows can be read. The input of a
    batch that is validating is read first. The completion window goes on."""
    return _shown(batch_pauses.pause(caller().account_id, batch_id))


@blueprint.post("/<batch_id>/resume")
@requires("batches")
@documented("Resume a batch", {200: schemas.Batch}, refuses=(409,))
def resume(batch_id: str) -> Response:
    """Takes the customer's own pause back. What a cap or a suspension pauses stays paused."""
    batch = batch_pauses.resume(caller().account_id, batch_id)
    queue.announce_work(caller().plan)
    return _shown(batch)


@blueprint.post("/<batch_id>")
@requires("batches")
@documented("Change a batch's cap", {200: schemas.Batch}, json=(forms.UpdateBatch,), refuses=(409,))
def update(batch_id: str) -> Response:
    """Changes the cap on a batch's cost; one that it had paused goes on once there is room."""
    batch = batches.set_max_cost(caller(), batch_id, forms.parse(forms.UpdateBatch, forms.json_object()).max_cost)
    queue.announce_work(caller().plan)
    return _shown(batch)


@blueprint.post("/<batch_id>/retry")
@requires("batches", key=True)
@documented("Retry a batch", {200: schemas.Batch}, refuses=(409,))
def retry(batch_id: str) -> Response:
    """Has the rows that failed, expired or were cancelled run again."""
    batch = batches.retry(caller(), batch_id)
    queue.enqueue_retry(batch.id)
    return _shown(batch)
