"""Outcomes for a whole batch at once, written by SQL: downloads are measured without waiting for so many calls."""

from typing import Any
from uuid import UUID

from psycopg import Connection

from common.output_lines import line


def write_results(database: Connection[Any], batch_id: UUID) -> None:
    """Ends an in_progress batch whose worker is gone, every row succeeded, with bodies of about 600 bytes."""
    # A line of the output file without what differs from row to row: its number, its ids and its body.
    bare_line = len(line(batch_id, 0, "", 200, "", b"{}", None, None)) - len("0{}")
    with database.transaction():
        for statement in (_RESULTS, _USAGE, _CLAIMS, _BATCH):
            database.execute(statement, {"id": batch_id, "bare_line": bare_line})
    # As autovacuum would have done while a batch of this size ran.
    database.execute("VACUUM (ANALYZE) jobs, results, usage_records")


_RESULTS = """
    INSERT INTO results (batch_id, seq, account_id, outcome, status_code, body, attempts, provider, request_id,
        started_at, finished_at)
    SELECT batch_id, seq, account_id, 'succeeded', 200, convert_to(format(
        '{"id":"chatcmpl-%%1$s","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini-2024-07-18",'
        '"choices":[{"index":0,"message":{"role":"assistant","content":"Row %%2$s is positive: the writer would buy it '
        'again, and \\"the little flaws\\" do not weigh much.","refusal":null,"annotations":[]},"logprobs":null,'
        '"finish_reason":"stop"}],"usage":{"prompt_tokens":97,"completion_tokens":24,"total_tokens":121,'
        '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,'
        '"audio_tokens":0}},"service_tier":"default","system_fingerprint":"fp_06737a9306"}', md5(seq::text), seq + 1
        ), 'UTF8'), 1, 'api.openai.com', 'req_' || md5(seq::text), now(), now()
    FROM jobs WHERE batch_id = %(id)s ORDER BY seq
"""

_USAGE = """
    INSERT INTO usage_records (batch_id, seq, account_id, api_key_id, model, provider, prompt_tokens, cached_tokens,
        completion_tokens, prompt_price, cached_price, completion_price, cost, created_at)
    SELECT j.batch_id, j.seq, j.account_id, b.api_key_id, 'gpt-4o-mini', 'api.openai.com', 97, 0, 24,
        150000000, 75000000, 600000000, 28950, now()
    FROM jobs j JOIN batches b ON b.id = j.batch_id WHERE b.id = %(id)s ORDER BY j.seq
"""

_CLAIMS = "DELETE FROM claims WHERE batch_id = %(id)s"

# Custom ids of plain letters and digits are as long in JSON as they are.
_BATCH = """
    UPDATE batches SET output_bytes = (
            SELECT sum(%(bare_line)s + length(r.seq::text) + octet_length(j.custom_id) + octet_length(r.request_id)
                + octet_length(r.body))
            FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.seq = r.seq WHERE r.batch_id = %(id)s
        ), state = 'completed', cursor = total, returned = 0, succeeded = total, prompt_tokens = 97 * total,
        completion_tokens = 24 * total, cost = 28950::bigint * total, ended_at = clock_timestamp()
    WHERE id = %(id)s
"""
