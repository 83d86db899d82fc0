"""What is exact of a batch at any time, or once it has ended: its counters, its results and its files."""

import json
from typing import LiteralString
from uuid import UUID

import psycopg

from common import ids
from common.output_lines import line
from tests.databases import one
from tests.web_client import WebClient


def check_exact(web: WebClient, database: psycopg.Connection, batch_id: UUID) -> None:
    """Of a batch that has ended: one result for each row, counters that are sums, no claim, files of the size told."""
    assert one(database, "SELECT returned, cursor = total, retrying FROM batches WHERE id = %s", batch_id) == (
        0, True, False,
    )  # fmt: skip
    query = "SELECT count(*), count(DISTINCT r.seq), max(b.total) FROM batches b JOIN results r ON r.batch_id = b.id"
    counted = one(database, query + " WHERE b.id = %s", batch_id)
    assert len(set(counted)) == 1
    assert one(database, "SELECT count(*) FROM claims WHERE batch_id = %s", batch_id) == (0,)
    check_counters_are_sums(database)
    check_files(web, database, batch_id)


COUNTERS: LiteralString = (
    "SELECT succeeded, failed, cancelled, expired, prompt_tokens, cached_tokens, completion_tokens, cost"
)


def check_counters_are_sums(database: psycopg.Connection) -> None:
    """Of every batch, its counters equal the sums of its results and of its receipts."""
    cached = database.execute(COUNTERS + " FROM batches ORDER BY id").fetchall()
    sums = database.execute("""
        SELECT count(*) FILTER (WHERE r.outcome = 'succeeded'), count(*) FILTER (WHERE r.outcome = 'failed'),
            count(*) FILTER (WHERE r.outcome = 'cancelled'), count(*) FILTER (WHERE r.outcome = 'expired'),
            coalesce(sum(u.prompt_tokens), 0), coalesce(sum(u.cached_tokens), 0),
            coalesce(sum(u.completion_tokens), 0), coalesce(sum(u.cost), 0)
        FROM batches b LEFT JOIN results r ON r.batch_id = b.id
        LEFT JOIN usage_records u ON u.batch_id = r.batch_id AND u.seq = r.seq
        GROUP BY b.id ORDER BY b.id
    """).fetchall()
    assert cached == sums


def check_files(web: WebClient, database: psycopg.Connection, batch_id: UUID) -> None:
    """Of a batch that has ended: both files hold a line for each of their rows, and every size told is the true one."""
    for succeeded in (True, False):
        shown, lines = file_id(database, batch_id, succeeded), expected(database, batch_id, succeeded)
        if not lines:
            assert web.get(f"/v1/files/{shown}").status_code == 404
            continue
        found = web.get(f"/v1/files/{shown}/content")
        assert found.status_code == 200
        assert found.data == b"".join(lines)
        assert found.headers["X-Incomplete"] == "false"
        assert int(found.headers["X-Last-Line"]) == len(lines)
        assert int(found.headers["Content-Length"]) == len(found.data)
        assert web.get(f"/v1/files/{shown}").get_json()["bytes"] == len(found.data)
        parsed = [json.loads(text) for text in found.data.splitlines()]
        assert len(parsed) == len(lines)
        assert all(row["error"] is None or row["response"] is None for row in parsed)
        for offset in (1, len(lines) // 2, len(lines), len(lines) + 1, 2**31 - 1):
            part = web.get(f"/v1/files/{shown}/content", offset=offset)
            assert part.data == b"".join(lines[offset:])
            assert int(part.headers["X-Last-Line"]) == len(lines)


def file_id(database: psycopg.Connection, batch_id: UUID, succeeded: bool) -> str:
    column: LiteralString = "output_file_id" if succeeded else "error_file_id"
    (found,) = one(database, "SELECT " + column + " FROM batches WHERE id = %s", batch_id)
    assert isinstance(found, UUID)
    return ids.show("file-", found)


def expected(database: psycopg.Connection, batch_id: UUID, succeeded: bool) -> list[bytes]:
    query: LiteralString = """
        SELECT r.seq, j.custom_id, r.status_code, r.request_id, r.body, r.error_code, r.error_message
        FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.seq = r.seq
        WHERE r.batch_id = %s AND (r.outcome = 'succeeded') = %s ORDER BY r.seq
    """
    return [line(batch_id, *row) for row in database.execute(query, [batch_id, succeeded])]
