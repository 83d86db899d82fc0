"""A batch's rows as a file, streamed from the rows themselves."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import quote
from uuid import UUID

from flask import Response

from common import csv_results, csv_rows, results, storage
from common.batch_input import CsvInput
from common.batches import Batch
from common.csv_dialect import CsvDialect
from common.csv_text import joined
from common.money import format_nano_dollars
from common.outputs import output_text
from common.results import CsvRow, Row
from web.render import provider_answer

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
CHUNK_BYTES = 64 * 1024


def response(account_id: UUID, batch: Batch, form: str) -> Response:
    """The batch's every row once, in input order; rows without an outcome say that they are pending."""
    rows = account_id, batch.id, batch.total
    chunks = _csv(batch, results.stream_csv(*rows)) if form == "csv" else _jsonl(batch, results.stream(*rows))
    answer = Response(chunks, content_type=FORMATS[form])
    stem = PurePosixPath(batch.input_filename or batch.shown_id).stem
    answer.headers.set("Content-Disposition", "attachment", **_names(f"{stem}-results.{form}"))
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
    chunk = bytearray()
    for row in rows:
        chunk += _line(batch.endpoint, row)
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def _line(endpoint: str, row: Row) -> bytes:
    answer = provider_answer(row.body)
    line = {
        "custom_id": row.custom_id,
        "status": row.outcome or "pending",
        "output": output_text(endpoint, row.body) if row.outcome == "succeeded" else None,
        "response": {"status_code": row.status_code, "request_id": row.request_id, "body": answer}
        if row.status_code is not None
        else None,
        "error": {"code": row.error_code, "message": row.error_message} if row.error_code else None,
        "usage": {
            "prompt_tokens": row.prompt_tokens,
            "cached_tokens": row.cached_tokens,
            "completion_tokens": row.completion_tokens,
        }
        if row.prompt_tokens is not None
        else None,
        "cost": format_nano_dollars(row.cost) if row.cost is not None else None,
    }
    return json.dumps(line).encode() + b"\n"
