"""Output and error files: a line for every row, in input order, of exactly the size that was counted."""

import json
import random
from typing import Any

import psycopg
import pytest

from common import files
from tests import work
from tests.exact import check_files, expected, file_id
from tests.web_client import WebClient
from tests.work import all_claims, take
from worker import closing, ingest, leases
from worker.outcomes import record

ANSWERS = (
    b'{"choices": []}',
    b'{\n  "choices": [\r\n]}\n',
    '{"text": "gr\u00fc\u00df \u2028 \U0001f600"}'.encode(),
    b'{"text": "\\ud800 half a pair"}',
    b'{"text": "\\n\\u0000"}',
    b'{"text": "' + b"long " * 30_000 + b'"}',
)
ERROR_BODIES = (
    None,
    b"",
    b"no",
    b"<html>\nBad gateway\r\n</html>",
    b'{"error": {"message": "slow\\ndown"}}\n',
    b'{"error":\n {"code":\r 1}}',
    b'{"a": "raw \n newline and \t tab"}',
    b'{"a": "bad escape \\x"}',
    b'{"a": "\xff\xfe"}',
    b'\xef\xbb\xbf{"a": 1}',
    b'{"a": NaN}',
    b'{"a": 01}',
    b'{"a": 1} {"b": 2}',
    b'"\\ud800"',
    b"[" * 100_000,
    b"[" * 5_000 + b"]" * 5_000,
    b"\0\0",
    b" ",
)
REQUEST_IDS = (None, "", "req_1", 'quo"ted \\ \u00e4')


def test_whatever_a_provider_answers_becomes_one_line_of_the_size_that_was_counted(
    web: WebClient, database: psycopg.Connection
) -> None:
    bodies: list[tuple[str, bytes | None]] = [("succeeded", body) for body in ANSWERS]
    bodies += [("failed", body) for body in ERROR_BODIES]
    every = [(kind, body, request_id) for kind, body in bodies for request_id in REQUEST_IDS]
    batch_id = work.requests(web.caller, [work.request(number) for number in range(len(every))])
    for claim in all_claims():
        record([
            work.outcome(claim, job.seq, kind, body=body, request_id=request_id, **_failure(kind, body, job.seq))
            for job in claim.jobs
            for kind, body, request_id in [every[job.seq]]
        ])  # fmt: skip
    assert web.batch(batch_id)["status"] == "completed"
    check_files(web, database, batch_id)


def _failure(kind: str, body: bytes | None, seq: int) -> dict[str, Any]:
    if kind == "succeeded":
        return {}
    # A body that was no answer comes with a 200 too; no body with no status, or with one.
    return {"status_code": (200, 500, None)[seq % 3] if body is None else (200, 429)[seq % 2]}


def test_rows_that_fail_before_any_call_have_their_lines(web: WebClient, database: psycopg.Connection) -> None:
    bad: list[Any] = [
        "no object", {"custom_id": "no body"}, {"custom_id": "row-0", "body": work.request(0)["body"]},
        work.request(0) | {"custom_id": 'odd "\u00e4 \U0001f600', "url": "/v1/\ud800"},
        work.request(0) | {"custom_id": "\0"},
    ]  # fmt: skip
    batch_id = work.requests(web.caller, [work.request(0), *bad, work.request(1)], on_error="skip")
    for claim in all_claims():
        record(work.outcomes(claim))
    shown = web.batch(batch_id)
    assert shown["counts"] | {"succeeded": 2, "failed": 5, "total": 7} == shown["counts"]
    check_files(web, database, batch_id)

    csv_id = work.upload(web.caller, b'text\na\n" "\nb\n" "\n')
    ingest.run(csv_id)
    for claim in all_claims():
        record(work.outcomes(claim))
    assert web.batch(csv_id)["counts"]["failed"] == 2
    check_files(web, database, csv_id)


@pytest.mark.parametrize(("state", "outcome"), [("cancelling", "cancelled"), ("expiring", "expired")])
def test_a_stopped_batch_delivers_what_finished_and_says_why_the_rest_did_not(
    web: WebClient, database: psycopg.Connection, state: str, outcome: str
) -> None:
    batch_id = work.requests(web.caller, [work.request(number) for number in range(40)])
    first, second, third = (take(rows=8)[0] for _ in range(3))
    record(work.outcomes(first)[:5])
    leases.give_back([second.key])
    database.execute("UPDATE batches SET state = %s, cancelling_at = now()", [state])
    closing.close(batch_id)
    record(work.outcomes(third, outcome))
    record([work.outcome(first, seq, "failed") for seq in (5, 6, 7)])
    counts = web.batch(batch_id)["counts"]
    assert (counts["succeeded"], counts["failed"], counts[outcome]) == (5, 3, 32)
    check_files(web, database, batch_id)
    errors = web.get(f"/v1/files/{file_id(database, batch_id, False)}/content").data.splitlines()
    assert {json.loads(text)["error"]["code"] for text in errors if b'"response":null' in text} == {f"batch_{outcome}"}


def test_a_group_that_is_recorded_again_is_counted_once(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = work.requests(web.caller, [work.request(number) for number in range(6)])
    (claim,) = take()
    group = [work.outcome(claim, seq, ("succeeded", "failed")[seq % 2]) for seq in range(5)]
    for _ in range(3):
        record(group)
    for _ in range(2):
        record([*group, work.outcome(claim, 5)])
    check_files(web, database, batch_id)


@pytest.mark.parametrize("seed", range(3))
def test_a_program_that_polls_with_its_offset_gets_every_line_once_and_in_order(
    web: WebClient, database: psycopg.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    sent: list[Any] = [work.request(number) if chance.random() < 0.9 else "bad" for number in range(60)]
    batch_id = work.requests(web.caller, sent, on_error="skip")
    got: dict[bool, bytes] = {True: b"", False: b""}
    seen = {True: 0, False: 0}

    def poll() -> None:
        for succeeded in (True, False):
            path = f"/v1/files/{file_id(database, batch_id, succeeded)}/content"
            found = web.get(path, offset=seen[succeeded])
            got[succeeded] += found.data
            seen[succeeded] += found.data.count(b"\n")
            assert int(found.headers["X-Last-Line"]) == seen[succeeded]
            whole = web.get(path)
            assert whole.data == got[succeeded]
            ended = database.execute("SELECT 1 FROM batches WHERE ended_at IS NOT NULL").fetchall() != []
            assert whole.headers["X-Incomplete"] == ("false" if ended else "true")

    while database.execute("SELECT 1 FROM batches WHERE ended_at IS NULL").fetchall():
        taken = [claim for _ in range(chance.randint(1, 3)) for claim in take(rows=chance.randint(1, 15))]
        chance.shuffle(taken)
        for claim in taken:
            seqs = [job.seq for job in claim.jobs if chance.random() < 0.8]
            chance.shuffle(seqs)
            for seq in seqs:
                record([work.outcome(claim, seq, chance.choice(["succeeded", "failed"]))])
                poll()
            leases.give_back([claim.key])
            poll()
    assert got[True] == b"".join(expected(database, batch_id, True))
    assert got[False] == b"".join(expected(database, batch_id, False))
    check_files(web, database, batch_id)


def test_a_file_that_was_looked_up_before_its_batch_ended_is_told_at_its_full_length(
    web: WebClient, database: psycopg.Connection
) -> None:
    # Imported here: the app reads its settings when it is loaded.
    from web import downloads

    batch_id = work.requests(web.caller, [work.request(number) for number in range(4)])
    (claim,) = take()
    record(work.outcomes(claim)[:2])
    early = files.get(web.caller.account_id, file_id(database, batch_id, True))
    record(work.outcomes(claim)[2:])
    answer = downloads.lines(web.caller.account_id, early, 0)
    assert answer.content_length == len(answer.get_data()) == sum(map(len, expected(database, batch_id, True)))


@pytest.mark.parametrize("offset", ["-1", "x", "", "1.5", "99999999999", "\u0661", "0x1", "1 ", "\0"])
def test_an_offset_that_is_no_number_is_refused(web: WebClient, database: psycopg.Connection, offset: str) -> None:
    batch_id = work.requests(web.caller, [work.request(0)])
    found = web.get(f"/v1/files/{file_id(database, batch_id, True)}/content", offset=offset)
    assert (found.status_code, found.get_json()["error"]["param"]) == (400, "offset")
