"""A baseline: bare COPY of a batch's jobs, the rows ready in memory. `python -m bench.bare_copy BATCH_ID`

The table it fills has the shape of jobs, its primary key included. Prints the seconds of the fastest COPY, commit
included, and the format of it, as JSON. DATABASE_URL says where.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg

ROUNDS = 2
TYPES = ("uuid", "int4", "uuid", "text", "bytea", "int4", "int8")
FORMATS: dict[str, LiteralString] = {
    "text": "COPY bare_jobs FROM STDIN",
    "binary": "COPY bare_jobs FROM STDIN (FORMAT binary)",
}


def main() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        # In binary, because a million bodies as text are twice as many bytes.
        rows = (
            connection.cursor(binary=True)
            .execute(
                "SELECT batch_id, seq, account_id, custom_id, body, tokens, cost FROM jobs"
                " WHERE batch_id = %s ORDER BY seq",
                [sys.argv[1]],
            )
            .fetchall()
        )
        connection.execute("CREATE TABLE bare_jobs (LIKE jobs INCLUDING ALL)")
        seconds = {name: min(_copy(connection, name, rows) for _ in range(ROUNDS)) for name in FORMATS}
    fastest = min(seconds, key=seconds.__getitem__)
    print(json.dumps({"rows": len(rows), "seconds": seconds[fastest], "format": fastest}))


def _copy(connection: psycopg.Connection, form: str, rows: Sequence[tuple[Any, ...]]) -> float:
    connection.execute("TRUNCATE bare_jobs")
    began = time.perf_counter()
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(FORMATS[form]) as copy:
        if form == "binary":
            copy.set_types(TYPES)
        for row in rows:
            copy.write_row(row)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
