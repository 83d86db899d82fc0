"""The jobs of a CSV of prompts: each row rendered by the batch's template."""

from collections.abc import Iterator
from typing import BinaryIO

from common import csv_rows
from common.batch_input import CUSTOM_ID_COLUMN, CsvInput
from common.errors import InvalidRequest, LineError
from common.input_rows import BadRow, InputRow, JobRow, custom_id_problem
from common.reservations import Reserver

MAX_BODY_CHARACTERS = 4 * 2**20


def read(file: BinaryIO, csv_input: CsvInput, model: str, reserver: Reserver) -> Iterator[InputRow]:
    """Every row under the header. A row without a custom_id column is named by its number, from 1. The bodies set the
    bound of their answers, all the same one."""
    columns = csv_input.dialect.columns
    output = reserver.output_of(csv_input.body_fields) or 0
    template = csv_input.body_template(model)
    id_column = columns.index(CUSTOM_ID_COLUMN) if csv_input.names_rows else None
    number = 0
    for found in csv_rows.read(file, csv_input.dialect):
        number += 1
        if isinstance(found, LineError):
            # Rows go on after these two; after the others nobody knows where a row begins.
            yield BadRow(found, "") if found.code in ("ragged_row", "nul_byte") else found
            continue
        line, row = found
        custom_id = str(number) if id_column is None else row[id_column]
        if id_column is not None and (problem := custom_id_problem(line, custom_id)) is not None:
            yield BadRow(problem, "")
        elif template.least_characters(row) > MAX_BODY_CHARACTERS:
            message = f"line {line} makes a body of over {MAX_BODY_CHARACTERS:,} characters: shorten its cells"
            yield BadRow(LineError("row_too_long", line, message, "prompt"), custom_id)
        else:
            body, blank = template.render(row)
            if blank:
                # Not worth a call: it fails, and only it.
                error = LineError("empty_prompt", line, "The prompt of this row is empty.", "prompt")
                yield BadRow(error, custom_id, body, fails_alone=True)
            else:
                try:
                    tokens, cost = reserver.bound(model, len(body), output)
                except InvalidRequest as error:
                    yield BadRow(LineError(error.code or "invalid_body", line, error.message, "prompt"), custom_id)
                else:
                    yield JobRow(line, custom_id, body, tokens, cost)
