"""What is downloaded: uploaded files as they came, and a batch's rows as files, streamed from the rows themselves."""

import json
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from urllib.parse import quote
from uuid import UUID

from flask import Response

from common import batches, csv_results, csv_rows, ids, results, shared_thread, storage
from common.batch_input import CsvInput
from common.batches import ENDED_STATES, Batch
from common.csv_dialect import CsvDialect
from common.csv_text import joined
from common.errors import NotFound
from common.files import File
from common.output_lines import line
from common.outputs import output_text
from common.results import CsvRow, LineRow, Row
from web import render

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
CHUNK_BYTES = 64 * 1024


def stored(file: File, key: str) -> Response:
    """An uploaded file as it came; `key` is its own."""
    try:
        content = storage.open_content(key)
    except FileNotFoundError:
        # Deleted since its row was read.
        raise NotFound(f"The file {file.shown_id} is no longer stored.", param="file_id") from None
    chunks = iter(lambda: content.read(CHUNK_BYTES), b"")
    answer = Response(chunks, content_type="application/octet-stream")
    answer.call_on_close(content.close)
    answer.content_length = file.bytes
    return _named(answer, file.filename)


def lines(account_id: UUID, file: File, offset: int) -> Response:
    """An output or error file from the line after `offset`: whole when its batch has ended, else its finished
    beginning. Headers tell how many lines there are by now, and whether more will come."""
    if file.shows is None or file.batch_id is None:
        raise NotFound(f"The file {file.shown_id} shows no batch.", param="file_id")
    batch = batches.get(account_id, ids.show("batch_", file.batch_id))
    ended = batch.state in ENDED_STATES
    if ended and offset == 0:
        count = batch.succeeded if file.shows == "outputs" else batch.ended_rows - batch.succeeded
        first, end = 0, batch.total
    else:
        found = results.beginning(account_id, batch.id, file.shows, offset)
        count, first, end = found.lines, found.first, found.end
    rows = results.stream_lines(account_id, batch.id, file.shows, first, end)
    chunks = _taking_turns(_in_chunks(_output_lines(batch.id, rows)))
    answer = Response(chunks, content_type="application/octet-stream")
    if ended and offset == 0:
        # Of the batch as it was just read: the file was read before, when the batch may still have run.
        answer.content_length = batch.output_bytes if file.shows == "outputs" else batch.error_bytes
    answer.headers["X-Incomplete"] = "false" if ended else "true"
    answer.headers["X-Last-Line"] = str(count)
    return _named(answer, file.filename)


def _output_lines(batch_id: UUID, rows: Iterator[LineRow]) -> Iterator[bytes]:
    for body, seq, custom_id, status_code, request_id, error_code, error_message in rows:
        yield line(batch_id, seq, custom_id, status_code, request_id, body, error_code, error_message)


def _in_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    chunk = bytearray()
    for part in parts:
        chunk += part
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def response(account_id: UUID, batch: Batch, form: str) -> Response:
    """The batch's every row once, in input order; rows without an outcome say that they are pending."""
    rows = account_id, batch.id, batch.total
    chunks = _csv(batch, results.stream_csv(*rows)) if form == "csv" else _jsonl(batch, results.stream(*rows))
    stem = PurePosixPath(batch.input_filename or batch.shown_id).stem
    return _named(Response(_taking_turns(chunks), content_type=FORMATS[form]), f"{stem}-results.{form}")


def _taking_turns(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A client may take them as fast as they are made, so that the request would never wait."""
    for chunk in chunks:
        yield chunk
        shared_thread.let_others_go_on()


def _named(answer: Response, filename: str) -> Response:
    answer.headers.set("Content-Disposition", "attachment", **_names(filename))
    return answer


def _names(filename: str) -> dict[str, str]:
    """A header holds ASCII alone; a name beyond it is there in RFC 8187's way too."""
    if filename.isascii():
        return {"filename": filename}
    plain = filename.encode("ascii", "replace").decode().replace("?", "_")
    return {"filename": plain, "filename*": f"UTF-8''{quote(filename, safe='')}"}


def _csv(batch: Batch, rows: Iterator[CsvRow]) -> Iterator[bytes]:
    """The customer's own columns, read again from the file they sent, with ours behind them."""
    endpoint = batch.endpoint
    if batch.input is None or batch.input_key is None:
        return csv_results.write(
            ("custom_id",),
            ((joined([custom_id]), output_text(endpoint, body), others) for body, custom_id, others in rows),
        )
    dialect = CsvInput.from_json(batch.input).dialect
    # Of a batch that failed validation, or was cancelled during it, no row was accepted.
    own_rows = _own_rows(batch.input_key, dialect) if batch.total else iter(())
    return csv_results.write(
        dialect.columns,
        ((own, output_text(endpoint, body), others) for own, (body, _, others) in zip(own_rows, rows, strict=True)),
    )


def _own_rows(key: str, dialect: CsvDialect) -> Iterator[str]:
    with storage.open_content(key) as file:
        yield from csv_rows.copy(file, dialect)


def _jsonl(batch: Batch, rows: Iterator[Row]) -> Iterator[bytes]:
    return _in_chunks(json.dumps(render.row(batch.endpoint, row)).encode() + b"\n" for row in rows)
