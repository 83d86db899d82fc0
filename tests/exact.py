"""What is exact of a batch at any time, or once it has ended: its counters, its results and its files."""

import json
from typing import LiteralString
from uuid import UUID

import psycopg

from common import event_invariants, ids, invariants
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
    check_quotas_are_sums(database)


def check_quotas_are_sums(database: psycopg.Connection) -> None:
    """What is held for a batch is what its rows without a result may use; a quota holds what its batches do, and has
    used what their receipts say."""
    assert (
        database.execute("""
        SELECT b.id, b.reserved_tokens, b.reserved_cost, open.tokens, open.cost FROM batches b, LATERAL (
            SELECT coalesce(sum(j.tokens), 0) AS tokens, coalesce(sum(j.cost), 0) AS cost FROM jobs j
            WHERE j.batch_id = b.id AND NOT EXISTS (
                SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.seq = j.seq)
        ) AS open
        WHERE NOT b.retrying AND (b.reserved_tokens, b.reserved_cost) IS DISTINCT FROM (open.tokens, open.cost)
    """).fetchall()
        == []
    )
    assert (
        database.execute("""
        SELECT q.account_id, q.used, q.reserved, q.cost_used, q.cost_reserved, sums.*
        FROM quotas q, LATERAL (
            SELECT coalesce(sum(b.prompt_tokens + b.completion_tokens), 0) AS used,
                coalesce(sum(b.reserved_tokens), 0) AS reserved, coalesce(sum(b.cost), 0) AS cost_used,
                coalesce(sum(CASE WHEN b.max_cost IS NULL THEN b.reserved_cost
                    ELSE greatest(0, least(b.reserved_cost, b.max_cost - b.cost)) END), 0) AS cost_reserved
            FROM batches b WHERE b.account_id = q.account_id AND b.period_start = q.period_start
        ) AS sums
        WHERE (q.used, q.reserved, q.cost_used, q.cost_reserved)
            IS DISTINCT FROM (sums.used, sums.reserved, sums.cost_used, sums.cost_reserved)
    """).fetchall()
        == []
    )


def check_events() -> None:
    """Of every batch and single job, its end is told once and with nothing untrue before it."""
    with invariants.snapshot() as connection:
        for page in invariants.batch_pages(connection):
            assert event_invariants.events(connection, page) == []


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
