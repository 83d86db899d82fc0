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
from common.csv_results import ResultCells
from common.endpoints import output_text
from common.errors import LineError
from common.money import format_nano_dollars
from common.results import Row
from web.render import provider_answer

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
CHUNK_BYTES = 64 * 1024


def response(account_id: UUID, batch: Batch, form: str) -> Response:
    """The batch's every row once, in input order; rows without an outcome say that they are pending."""
    rows = results.stream(account_id, batch.id, batch.total)
    chunks = _csv(batch, rows) if form == "csv" else _jsonl(batch, rows)
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


def _csv(batch: Batch, rows: Iterator[Row]) -> Iterator[bytes]:
    """The customer's own columns, read again from the file they sent, with ours behind them."""
    if batch.input is None or batch.input_key is None:
        pairs = (([row.custom_id], _result_cells(batch.endpoint, row)) for row in rows)
        return csv_results.write(("custom_id",), pairs)
    dialect = CsvInput.from_json(batch.input).dialect
    # Of a batch that failed validation, or was cancelled during it, no row was accepted.
    cells = _cells(batch.input_key, batch.input) if batch.total else iter(())
    return csv_results.write(
        dialect.columns, ((own, _result_cells(batch.endpoint, row)) for own, row in zip(cells, rows, strict=True))
    )


def _cells(key: str, csv_input: dict[str, object]) -> Iterator[list[str]]:
    with storage.open_content(key) as file:
        for found in csv_rows.read(file, CsvInput.from_json(csv_input).dialect):
            if isinstance(found, LineError):
                raise RuntimeError(f"line {found.line} of an input that was read once cannot be read again")
            yield found[1]


def _result_cells(endpoint: str, row: Row) -> ResultCells:
    text = None
    if row.outcome == "succeeded" and row.body is not None:
        answer = provider_answer(row.body)
        text = output_text(endpoint, answer) if isinstance(answer, dict) else None
    return ResultCells(
        text, row.outcome or "pending", row.error_message, row.prompt_tokens, row.completion_tokens, row.cost
    )


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
        "output": output_text(endpoint, answer) if row.outcome == "succeeded" and isinstance(answer, dict) else None,
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
