"""What time does: batches whose window is over, files and results whose time to be kept is over."""

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import LiteralString
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import UUID

import psycopg
import pytest

from common import files, ids, queue, storage
from tests import work
from tests.databases import one
from tests.exact import check_counters_are_sums, check_files, file_id
from tests.web_client import WebClient, refused
from tests.work import all_claims, take
from worker import closing, ingest, leases, retention, sweep
from worker.leases import Renewed
from worker.outcomes import record


def over(database: psycopg.Connection, column: LiteralString, table: LiteralString = "batches") -> None:
    """Makes that time a minute ago."""
    database.execute("UPDATE " + table + " SET " + column + " = now() - interval '1 minute'")


def make(web: WebClient, rows: int) -> UUID:
    return work.requests(web.caller, [work.request(number) for number in range(rows)])


def stored_objects(settings: dict[str, str]) -> list[Path]:
    folder = Path(url2pathname(urlsplit(settings["STORAGE_URL"]).path))
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_batch_that_is_validating_expires_at_once_and_is_not_read(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.upload(web.caller, b"text\na\n")
    over(database, "expires_at")
    sweep.run()
    ingest.run(batch_id)
    shown = web.batch(batch_id)
    assert (shown["status"], shown["counts"]["total"]) == ("expired", 0)
    assert shown["expired_at"] is not None
    assert (shown["output_file_id"], shown["error_file_id"]) == (None, None)
    assert one(database, "SELECT count(*) FROM jobs") == (0,)


def test_a_batch_of_which_nothing_was_claimed_expires_whole(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 12)
    over(database, "expires_at")
    sweep.run()
    assert [job.func_name for job in queue.queue("tasks").jobs] == ["worker.tasks.close"]
    assert web.batch(batch_id)["status"] == "finalizing"
    assert take() == [], "nothing of it begins any more"
    closing.close(batch_id)
    shown = web.batch(batch_id)
    assert (shown["status"], shown["counts"]["expired"]) == ("expired", 12)
    assert shown["output_file_id"] is None
    assert shown["error_file_id"] is not None
    assert shown["expired_at"] >= shown["finalizing_at"]
    check_files(web, database, batch_id)


def test_calls_in_flight_are_stopped_and_what_finished_is_delivered(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = make(web, 20)
    (claim,) = take(rows=8)
    record(work.outcomes(claim)[:3])
    over(database, "expires_at")
    assert leases.renew([claim.key]) == {claim.key: Renewed(None, False)}
    sweep.run()
    assert leases.renew([claim.key]) == {claim.key: Renewed("expired", False)}
    closing.close(batch_id)
    assert web.batch(batch_id)["status"] == "finalizing"
    # One call was answered before it heard.
    record([work.outcome(claim, 3)])
    record(work.outcomes(claim, "expired"))
    shown = web.batch(batch_id)
    assert (shown["status"], shown["counts"]["succeeded"], shown["counts"]["expired"]) == ("expired", 4, 16)
    assert shown["request_counts"] == {"total": 20, "completed": 4, "failed": 16}
    check_files(web, database, batch_id)
    check_counters_are_sums(database)


def test_a_batch_whose_worker_died_expires_all_the_same(web: WebClient, database: psycopg.Connection) -> None:
    batch_id = make(web, 10)
    (claim,) = take(rows=10)
    record(work.outcomes(claim)[:4])
    over(database, "expires_at")
    over(database, "lease_until", "claims")
    for _ in range(2):
        sweep.run()
    closing.close(batch_id)
    record(work.outcomes(claim))
    shown = web.batch(batch_id)
    assert (shown["status"], shown["counts"]["succeeded"], shown["counts"]["expired"]) == ("expired", 4, 6)
    assert one(database, "SELECT count(*) FROM claims") == (0,)
    check_files(web, database, batch_id)


def test_single_jobs_and_batches_that_ended_or_stop_already_do_not_expire(
    web: WebClient, database: psycopg.Connection
) -> None:
    work.single(web.caller)
    assert one(database, "SELECT expires_at FROM batches") == (None,)
    ended, cancelled = make(web, 1), make(web, 2)
    web.post(f"/v1/batches/{ids.show('batch_', cancelled)}/cancel")
    for claim in all_claims():
        record(work.outcomes(claim))
    database.execute("UPDATE batches SET expires_at = now() - interval '1 minute' WHERE kind <> 'single'")
    sweep.run()
    assert web.batch(ended)["status"] == "completed"
    assert web.batch(cancelled)["status"] == "cancelling"
    closing.close(cancelled)
    assert web.batch(cancelled)["status"] == "cancelled"


def test_a_file_goes_when_its_time_is_over_and_its_content_with_it(
    web: WebClient, database: psycopg.Connection, settings: dict[str, str]
) -> None:
    sent = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = web.post("/v1/files", data=sent | {"file": (io.BytesIO(b"{}\n"), "a.jsonl")}).get_json()
    assert made["expires_at"] == made["created_at"] + 3600
    retention.run()
    assert web.get(f"/v1/files/{made['id']}/content").data == b"{}\n"
    over(database, "expires_at", "files")
    refused(web.get(f"/v1/files/{made['id']}"), 404)
    refused(web.get(f"/v1/files/{made['id']}/content"), 404)
    assert web.get("/v1/files").get_json()["data"] == []
    for _ in range(2):
        retention.run()
    assert stored_objects(settings) == []
    refused(web.post("/v1/batches", json={"input_file_id": made["id"], "endpoint": "/v1/responses"}), 404)


def test_a_deleted_inputs_content_stays_until_no_batch_has_it_to_read(
    web: WebClient, database: psycopg.Connection, settings: dict[str, str]
) -> None:
    line = json.dumps({"method": "POST", "url": "/v1/chat/completions"} | work.request(1)).encode()
    file = files.create(web.caller, "a.jsonl", io.BytesIO(line), timedelta(hours=1))
    sent = {"input_file_id": file.shown_id, "endpoint": "/v1/chat/completions"}
    first, second = (web.post("/v1/batches", json=sent).get_json()["id"] for _ in range(2))
    assert web.delete(f"/v1/files/{file.shown_id}").get_json()["deleted"] is True
    refused(web.get(f"/v1/files/{file.shown_id}"), 404)
    refused(web.delete(f"/v1/files/{file.shown_id}"), 404)
    for shown in (first, second):
        retention.run()
        assert len(stored_objects(settings)) == 1
        batch_id = ids.parse("batch_", shown)
        assert batch_id is not None
        ingest.run(batch_id)
        assert web.batch(batch_id)["counts"]["total"] == 1
    retention.run()
    assert stored_objects(settings) == []
    assert one(database, "SELECT storage_key FROM files WHERE purpose = 'batch'") == (None,)


def test_content_that_is_gone_already_is_no_trouble(web: WebClient, settings: dict[str, str]) -> None:
    file = files.create(web.caller, "a.jsonl", io.BytesIO(b"{}"), None)
    web.delete(f"/v1/files/{file.shown_id}")
    storage.delete(file.storage_key or "")
    retention.run()
    assert stored_objects(settings) == []


def test_a_csvs_results_are_told_by_its_ids_once_the_input_is_gone(
    web: WebClient, database: psycopg.Connection
) -> None:
    batch_id = work.bulk(web.caller, 3)
    for claim in all_claims():
        record(work.outcomes(claim))
    path = f"/v1/batches/{ids.show('batch_', batch_id)}/results"
    assert web.get(path, format="csv").text.startswith("text,output,")
    (input_id,) = one(database, "SELECT id FROM files WHERE purpose = 'batch'")
    web.delete(f"/v1/files/file-{UUID(str(input_id)).hex}")
    retention.run()
    text = web.get(path, format="csv").text
    assert text.startswith("custom_id,output,")
    assert len(text.splitlines()) == 4


def test_a_csv_stays_as_long_as_results_that_show_its_columns(
    web: WebClient, database: psycopg.Connection, settings: dict[str, str]
) -> None:
    batch_id = work.bulk(web.caller, 3)
    for claim in all_claims():
        record(work.outcomes(claim))
    database.execute("UPDATE files SET expires_at = now() - interval '1 second' WHERE purpose = 'batch'")
    retention.run()
    path = f"/v1/batches/{ids.show('batch_', batch_id)}/results"
    assert web.get(path, format="csv").text.startswith("text,output,")
    database.execute("UPDATE batches SET results_expire_at = now() - interval '1 second'")
    for _ in range(2):
        retention.run()
    assert stored_objects(settings) == []


def test_rows_go_when_their_time_is_over_and_receipts_stay(web: WebClient, database: psycopg.Connection) -> None:
    batch_id, kept_id, job_id = make(web, 30), make(web, 5), work.single(web.caller)
    for claim in all_claims():
        record(work.outcomes(claim))
    shown, output = ids.show("batch_", batch_id), file_id(database, batch_id, True)
    assert web.get("/v1/files", purpose="batch_output").get_json()["data"][0]["expires_at"] is not None
    database.execute(
        "UPDATE batches SET results_expire_at = now() - interval '1 minute' WHERE id = ANY(%s)", [[batch_id, job_id]]
    )

    def check_gone() -> None:
        refused(web.get(f"/v1/files/{output}"), 404)
        refused(web.get(f"/v1/files/{output}/content"), 404)
        assert output not in web.get("/v1/files").text
        for query in ({}, {"format": "csv"}, {"format": "jsonl"}, {"status": "succeeded"}):
            assert "deleted" in refused(web.get(f"/v1/batches/{shown}/results", **query), 404)["message"]

    check_gone()
    for _ in range(3):
        retention.run()
        check_gone()
    refused(web.get(f"/v1/jobs/{ids.show('job_', job_id)}"), 404)
    refused(web.post(f"/v1/jobs/{ids.show('job_', job_id)}/cancel"), 404)
    refused(web.get(f"/v1/jobs/{ids.show('job_', batch_id)}_0"), 404)
    assert web.get("/v1/jobs").get_json()["data"] == []
    assert web.batch(batch_id)["counts"]["succeeded"] == 30, "the batch itself and its sums stay"
    assert one(database, "SELECT count(*) FROM usage_records") == (36,)
    for table in ("jobs", "results"):
        left = database.execute(f"SELECT DISTINCT batch_id FROM {table}").fetchall()
        assert left == [(kept_id,)]
    check_files(web, database, kept_id)


def test_many_single_jobs_go_in_one_pass_and_a_large_batch_in_several_steps(
    web: WebClient, database: psycopg.Connection
) -> None:
    large = make(web, 1)
    for statement in (
        """INSERT INTO batches
            (id, account_id, api_key_id, plan, kind, endpoint, state, total, cursor, succeeded, ended_at)
        SELECT gen_random_uuid(), account_id, api_key_id, plan, 'single', endpoint, 'completed', 1, 1, 1, now()
        FROM batches, generate_series(1, 2_000)""",
        """INSERT INTO jobs SELECT b.id, 0, b.account_id, '', '' FROM batches b WHERE kind = 'single'""",
        """INSERT INTO jobs SELECT b.id, n, b.account_id, '', '' FROM batches b, generate_series(1, 11_999) n
        WHERE kind <> 'single'""",
        """UPDATE batches SET state = 'completed', ended_at = now(), total = 12_000, cursor = 12_000, succeeded = 12_000
        WHERE kind <> 'single'""",
        """INSERT INTO results (batch_id, seq, account_id, outcome, status_code, body, attempts, finished_at)
        SELECT batch_id, seq, account_id, 'succeeded', 200, '{}', 1, now() FROM jobs""",
    ):
        database.execute(statement)
    over(database, "results_expire_at")
    retention.run()
    assert one(database, "SELECT count(*) FROM jobs") == (0,)
    assert one(database, "SELECT count(*) FROM results") == (0,)
    assert one(database, "SELECT count(*) FROM batches WHERE purged_at IS NULL") == (0,)
    assert web.batch(large)["counts"]["succeeded"] == 12_000


@pytest.mark.parametrize("plan", ["free", "team"])
def test_results_stay_as_long_as_the_plan_has_it_unless_their_customer_wants_them_to_go_sooner(
    settings: dict[str, str], database: psycopg.Connection, plan: str
) -> None:
    of = work.caller(plan)
    days = {"free": 7, "team": 90}[plan]
    work.requests(of, [work.request(1)])
    work.requests(of, [work.request(1)], results_seconds=3600)
    work.requests(of, [work.request(1)], results_seconds=30 * 86400)
    for claim in all_claims(plan=plan):
        record(work.outcomes(claim))
    kept = database.execute(
        "SELECT extract(epoch FROM results_expire_at - ended_at) FROM batches ORDER BY id"
    ).fetchall()
    assert [round(seconds / 60) * 60 for (seconds,) in kept] == [days * 86400, 3600, min(days, 30) * 86400]
