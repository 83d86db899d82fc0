"""What is held at admission: how much, for what, and never past a limit."""

import io
import json
from typing import Any

import psycopg
import pytest

from common import batches, csv_dialect, ids, jobs, json_text
from common.batch_input import CsvInput
from common.batches import Options
from common.errors import Conflict, InvalidRequest, QuotaExceeded
from common.keys import Caller
from common.reservations import Reserver
from common.submission_webhooks import Webhook
from tests import work
from tests.databases import one
from tests.exact import check_counters_are_sums, check_quotas_are_sums
from tests.work import take
from worker import ingest, retrying
from worker.outcomes import record

pytestmark = pytest.mark.usefixtures("settings")

MODEL = "gpt-4o-mini"


def allow(database: psycopg.Connection, **overrides: int) -> Caller:
    """The caller of a new account with limits of its own."""
    account_id = work.caller().account_id
    database.execute("UPDATE accounts SET overrides = %s::jsonb WHERE id = %s", [json.dumps(overrides), account_id])
    return work.caller_of(account_id)


def cap(database: psycopg.Connection, of: Caller, nano_dollars: int | None) -> Caller:
    database.execute("UPDATE accounts SET hard_cap = %s WHERE id = %s", [nano_dollars, of.account_id])
    return work.caller_of(of.account_id)


def submit(of: Caller, max_tokens: int = 100, webhook: Webhook | None = None) -> jobs.Job:
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": max_tokens}
    return jobs.submit(of, "/v1/completions", body, None, webhook=webhook)


def held(max_tokens: int = 100) -> tuple[int, int]:
    """Tokens and cost that such a job holds."""
    reserver = Reserver("/v1/completions", work.caller().limits)
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": max_tokens}
    return reserver.hold(body, json_text.dumps(body))[1:]


def quota(database: psycopg.Connection, of: Caller) -> tuple[object, ...]:
    query = "SELECT used, reserved, cost_used, cost_reserved FROM quotas WHERE account_id = %s"
    return one(database, query, of.account_id)


# What is held.


@pytest.mark.parametrize(
    ("endpoint", "fields", "output"),
    [
        ("/v1/chat/completions", {}, 4_096),
        ("/v1/chat/completions", {"max_completion_tokens": 7}, 7),
        ("/v1/chat/completions", {"max_tokens": 7}, 7),
        ("/v1/chat/completions", {"max_tokens": 7, "max_completion_tokens": 9, "n": 3}, 27),
        ("/v1/chat/completions", {"max_tokens": None, "n": None}, 4_096),
        ("/v1/completions", {"max_tokens": 7, "n": 2, "best_of": 4}, 28),
        ("/v1/completions", {"max_tokens": 7, "prompt": ["One", "Two", "Three"]}, 21),
        ("/v1/completions", {"max_tokens": 7, "prompt": [[1, 2], [3]], "n": 2}, 28),
        ("/v1/completions", {"max_tokens": 7, "prompt": [1, 2, 3]}, 7),
        ("/v1/responses", {"max_output_tokens": 7}, 7),
        ("/v1/responses", {"max_tokens": 7}, 4_096),
        ("/v1/embeddings", {}, 0),
        ("/v1/embeddings", {"max_tokens": 7}, 0),
    ],
)
def test_a_job_holds_half_its_bytes_and_the_bound_of_its_answers(
    endpoint: str, fields: dict[str, Any], output: int
) -> None:
    body = {"model": "sim"} | fields
    reserver = Reserver(endpoint, work.caller().limits)
    sent, tokens, cost = reserver.hold(body, json_text.dumps(body))
    assert (tokens, cost) == (len(sent) // 2 + output, 0)
    # What bounds the answer is in the body that is sent, once.
    if endpoint != "/v1/embeddings":
        assert reserver.hold(json_text.loads(sent), sent) == (sent, tokens, cost)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "body.max_tokens"),
        ({"max_tokens": -1}, "body.max_tokens"),
        ({"max_tokens": 1.5}, "body.max_tokens"),
        ({"max_tokens": True}, "body.max_tokens"),
        ({"max_tokens": "9"}, "body.max_tokens"),
        ({"max_tokens": 10**9}, "body.max_tokens"),
        ({"max_completion_tokens": 10**30}, "body.max_completion_tokens"),
        ({"n": 0}, "body.n"),
        ({"n": 129}, "body.n"),
    ],
)
def test_a_bound_that_cannot_be_is_named(fields: dict[str, Any], param: str) -> None:
    body = {"model": "sim"} | fields
    with pytest.raises(InvalidRequest) as refused:
        Reserver("/v1/chat/completions", work.caller().limits).hold(body, json_text.dumps(body))
    assert (refused.value.param, refused.value.code) == (param, "invalid_bound")


def test_answers_of_more_tokens_than_can_be_counted_are_refused_and_nothing_else_is(
    database: psycopg.Connection,
) -> None:
    caller = allow(database, max_output_tokens=10_000_000, tokens_per_month=2**53, max_queued_tokens=2**53)
    body = {"model": MODEL, "prompt": ["Hi"] * 2, "max_tokens": 10_000_000, "n": 128}
    with pytest.raises(InvalidRequest) as refused:
        jobs.submit(caller, "/v1/completions", body, None)
    assert (refused.value.param, refused.value.code) == ("body.max_tokens", "invalid_bound")
    lines = [{"custom_id": "large", "body": body}, {"custom_id": "small", "body": body | {"max_tokens": 10}}]
    ingest.read(batches.create_inline(caller, Options("inline", "/v1/completions"), lines))
    assert one(database, "SELECT state, errors #>> '{0, code}', error_count FROM batches") == (
        "failed", "invalid_bound", 1,
    )  # fmt: skip


def test_a_prompt_over_the_plans_bound_is_refused(database: psycopg.Connection) -> None:
    caller = allow(database, max_prompt_tokens=100)
    with pytest.raises(InvalidRequest) as refused:
        jobs.submit(caller, "/v1/completions", {"model": "sim", "prompt": "x" * 200}, None)
    assert refused.value.code == "prompt_too_long"


# Admission.


def test_a_job_is_held_when_it_is_accepted_and_let_go_when_it_has_ended(database: psycopg.Connection) -> None:
    caller = work.caller()
    tokens, cost = held()
    submit(caller)
    assert quota(database, caller) == (0, tokens, 0, cost)
    (claim,) = take()
    record([work.outcome(claim, 0)])
    assert quota(database, caller) == (1_050, 0, work.COST, 0)
    check_counters_are_sums(database)


def test_a_job_that_is_cancelled_before_it_began_is_let_go(database: psycopg.Connection) -> None:
    caller = work.caller()
    jobs.cancel(caller.account_id, submit(caller).shown_id)
    assert quota(database, caller) == (0, 0, 0, 0)


@pytest.mark.parametrize("limit", ["tokens_per_month", "max_queued_tokens", "hard_cap"])
def test_the_last_job_that_fits_is_accepted_and_the_next_refused_by_name(
    limit: str, database: psycopg.Connection
) -> None:
    tokens, cost = held()
    own = {} if limit == "hard_cap" else {limit: 3 * tokens}
    caller = cap(database, allow(database, **own), None if own else 3 * cost)
    for _ in range(3):
        submit(caller)
    with pytest.raises(QuotaExceeded) as refused:
        submit(caller)
    code = {"tokens_per_month": "quota_exceeded", "max_queued_tokens": "queue_full", "hard_cap": "spend_cap_reached"}
    assert refused.value.code == code[limit]
    assert quota(database, caller) == (0, 3 * tokens, 0, 3 * cost)
    assert one(database, "SELECT count(*) FROM jobs") == (3,)


def test_what_is_queued_counts_over_periods_and_what_is_used_by_the_period_that_admitted_it(
    database: psycopg.Connection,
) -> None:
    tokens, _ = held()
    caller = allow(database, max_queued_tokens=2 * tokens)
    database.execute("UPDATE accounts SET billing_anchor = now() - interval '40 days'")
    caller = work.caller_of(caller.account_id)
    submit(caller)
    # The billing date passes: the job stays in the period that admitted it.
    database.execute("UPDATE accounts SET billing_anchor = now()")
    later = work.caller_of(caller.account_id)
    assert later.period_start > caller.period_start
    submit(later)
    with pytest.raises(QuotaExceeded, match="at once"):
        submit(later)
    for claim in take():
        record(work.outcomes(claim))
    query = "SELECT used, reserved FROM quotas ORDER BY period_start"
    assert database.execute(query).fetchall() == [(1_050, 0), (1_050, 0)]
    check_quotas_are_sums(database)


@pytest.mark.parametrize("code", ["quota_exceeded", "queue_full", "spend_cap_reached"])
def test_a_batch_that_does_not_fit_fails_with_the_limits_name_and_holds_nothing(
    code: str, database: psycopg.Connection
) -> None:
    if code == "spend_cap_reached":
        caller = cap(database, work.caller(), 1)
    else:
        name = "tokens_per_month" if code == "quota_exceeded" else "max_queued_tokens"
        caller = allow(database, **{name: 1_000})
    batch_id = work.upload(caller, b"text\nrow\n", model=MODEL)
    ingest.read(batch_id)
    state, errors = one(database, "SELECT state, errors FROM batches")
    assert state == "failed"
    assert isinstance(errors, list)
    assert [(error["code"], error["line"]) for error in errors] == [(code, None)]
    assert one(database, "SELECT count(*) FROM jobs") == (0,)
    assert database.execute("SELECT 1 FROM quotas WHERE reserved <> 0 OR cost_reserved <> 0").fetchall() == []


def test_a_batch_with_a_cap_of_its_own_holds_no_more_money_than_that(database: psycopg.Connection) -> None:
    caller = work.caller()
    work.bulk(caller, 5, model=MODEL, max_cost=1_000)
    assert quota(database, caller)[3] == 1_000
    (claim,) = take()
    # The cap is watched while the batch runs; here it has been passed by calls that were in flight.
    record(work.outcomes(claim))
    rows = len(claim.jobs)
    assert quota(database, caller) == (rows * 1_050, (5 - rows) * claim.jobs[0].tokens, rows * work.COST, 0)
    check_quotas_are_sums(database)


def test_a_model_without_a_price_may_not_run_under_a_batchs_cap(database: psycopg.Connection) -> None:
    batch_id = work.upload(work.caller(), b"text\nrow\n", max_cost=1_000)
    ingest.read(batch_id)
    assert one(database, "SELECT errors #>> '{0, code}' FROM batches") == ("price_unknown",)


def test_an_account_with_a_cap_runs_nothing_whose_price_is_not_known(database: psycopg.Connection) -> None:
    caller = cap(database, work.caller(), 10**12)
    with pytest.raises(InvalidRequest) as refused:
        work.single(caller)
    assert (refused.value.param, refused.value.code) == ("body.model", "price_unknown")
    submit(caller)
    ingest.read(work.upload(caller, b"text\nrow\n"))
    query = "SELECT errors #>> '{0, code}' FROM batches WHERE kind = 'csv'"
    assert one(database, query) == ("price_unknown",)


def test_a_batch_of_unknown_price_gets_no_cap_later(database: psycopg.Connection) -> None:
    caller = work.caller()
    shown = ids.show("batch_", work.bulk(caller, 2))
    with pytest.raises(InvalidRequest) as refused:
        batches.set_max_cost(caller, shown, 10**9)
    assert (refused.value.param, refused.value.code) == ("max_cost", "price_unknown")
    assert batches.set_max_cost(caller, shown, None).max_cost is None


def test_the_cap_that_a_batch_is_read_under_stays_until_it_is_read(database: psycopg.Connection) -> None:
    caller = work.caller()
    batch_id = work.upload(caller, b"text\nrow\n", model=MODEL, max_cost=1_000)
    shown = ids.show("batch_", batch_id)
    with pytest.raises(Conflict):
        batches.set_max_cost(caller, shown, None)
    ingest.ingest(batch_id)
    batches.set_max_cost(caller, shown, None)
    check_quotas_are_sums(database)


def test_a_cap_is_raised_also_where_no_token_is_left(database: psycopg.Connection) -> None:
    caller = work.caller()
    batch_id = work.bulk(caller, 3, model=MODEL, max_cost=1_000)
    caller = allow_again(database, caller, tokens_per_month=1, max_queued_tokens=1)
    batches.set_max_cost(caller, ids.show("batch_", batch_id), 2_000)
    assert quota(database, caller)[3] == 2_000
    check_quotas_are_sums(database)


def test_options_that_the_plan_no_longer_allows_fail_their_batch(database: psycopg.Connection) -> None:
    caller = work.caller()
    file = io.BytesIO(b"text\nrow\n")
    csv_input = CsvInput(csv_dialect.detect(file), "{{text}}", None, {"max_tokens": 5_000})
    batch_id = batches.create_from_csv(caller, MODEL, csv_input, "rows.csv", file, None, None)
    allow_less = '{"max_output_tokens": 4000, "default_output_tokens": 4000}'
    database.execute("UPDATE accounts SET overrides = %s::jsonb WHERE id = %s", [allow_less, caller.account_id])
    ingest.read(batch_id)
    query = "SELECT state, errors #>> '{0, code}', errors #>> '{0, param}' FROM batches"
    assert one(database, query) == ("failed", "invalid_bound", "max_tokens")


def test_rows_that_fail_without_a_call_hold_nothing(database: psycopg.Connection) -> None:
    caller = work.caller()
    sent = [work.request(1), work.request(1), {"custom_id": "bad"}, work.request(2)]
    work.requests(caller, sent, on_error="skip")
    assert one(database, "SELECT total, failed FROM batches") == (4, 2)
    tokens = one(database, "SELECT sum(tokens) FROM jobs WHERE seq IN (0, 3)")[0]
    assert quota(database, caller)[1] == tokens
    check_quotas_are_sums(database)


def test_a_retry_holds_its_rows_again_or_is_refused(database: psycopg.Connection) -> None:
    caller = work.caller()
    batch_id = work.bulk(caller, 4)
    (claim,) = take()
    record([work.outcome(claim, seq, "failed" if seq % 2 else "succeeded") for seq in range(4)])
    shown = ids.show("batch_", batch_id)
    small = allow_again(database, caller, max_queued_tokens=claim.jobs[0].tokens)
    with pytest.raises(QuotaExceeded):
        batches.retry(small, shown)
    assert one(database, "SELECT state, reserved_tokens FROM batches") == ("completed", 0)
    batches.retry(caller, shown)
    assert quota(database, caller)[1] == sum(job.tokens for job in claim.jobs if job.seq % 2)
    retrying.retry(batch_id)
    check_quotas_are_sums(database)
    for again in take():
        record(work.outcomes(again))
    assert quota(database, caller)[1] == 0
    check_counters_are_sums(database)


def allow_again(database: psycopg.Connection, of: Caller, **overrides: int) -> Caller:
    database.execute("UPDATE accounts SET overrides = %s::jsonb WHERE id = %s", [json.dumps(overrides), of.account_id])
    small = work.caller_of(of.account_id)
    database.execute("UPDATE accounts SET overrides = '{}' WHERE id = %s", [of.account_id])
    return small
