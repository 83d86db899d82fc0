"""What a job becomes when its provider misbehaves, over HTTP with a real worker."""

from typing import Any

import pytest

from tests.customer import Customer, answer
from tests.waiting import wait_for

Job = dict[str, Any]


def run(customer: Customer, model: str) -> Job:
    # The prompt names the model, so that the provider counts the tries of each apart.
    return customer.submit({"model": model, "prompt": f"Something for {model}"}, wait=50)


def test_a_providers_400_is_the_jobs_failure_kept_with_its_message_and_never_retried(customer: Customer) -> None:
    job = run(customer, "sim-400")
    assert job["status"] == "failed"
    assert job["attempts"] == 1
    assert job["error"] == {
        "code": "unsupported_value",
        "message": "Unsupported value: 'temperature' does not support 0.7 with this model. "
        "Only the default (1) value is supported.",
    }
    assert job["response"]["status_code"] == 400
    assert job["response"]["body"]["error"]["param"] == "temperature"
    assert job["output_text"] is None
    assert job["usage"] is None
    assert job["cost"] is None
    assert job["started_at"] <= job["finished_at"]


@pytest.mark.parametrize(
    ("model", "code", "status_code"),
    [
        ("sim-401", "provider_refused", 401),
        ("sim-403", "model_not_found", 403),
        ("sim-no-such-option", "model_not_found", 404),
    ],
)
def test_what_no_retry_mends_is_not_retried(customer: Customer, model: str, code: str, status_code: int) -> None:
    job = run(customer, model)
    assert job["status"] == "failed"
    assert job["attempts"] == 1
    assert job["error"]["code"] == code
    assert job["error"]["message"]
    assert job["response"]["status_code"] == status_code


def test_a_job_whose_providers_balance_is_exhausted_waits_until_it_is_not(customer: Customer) -> None:
    job = customer.submit({"model": "sim-quota-first-1", "prompt": "Wait for the money."}, wait=1)
    assert job["status"] == "in_progress"
    ended = wait_for(
        lambda: answer(customer.get(f"/v1/jobs/{job['id']}")), lambda job: job["status"] == "completed", 40
    )
    assert ended["attempts"] == 2


@pytest.mark.parametrize(
    ("model", "attempts"),
    [
        ("sim-500-first-2", 3),
        ("sim-502-first-1", 2),
        ("sim-503-first-1-retry-10ms", 2),
        ("sim-504-first-1", 2),
        ("sim-408-first-1", 2),
        ("sim-409-first-1", 2),
        ("sim-429-first-1-retry-10ms", 2),
        ("sim-drop-first-1", 2),
        ("sim-reset-first-1", 2),
        ("sim-not-json-first-1", 2),
    ],
)
def test_what_may_pass_is_tried_again_until_it_succeeds(customer: Customer, model: str, attempts: int) -> None:
    job = run(customer, model)
    assert job["status"] == "completed"
    assert job["attempts"] == attempts
    assert job["error"] is None
    assert job["usage"]["completion_tokens"] > 0


def test_an_answer_that_was_filtered_or_cut_is_a_success_that_says_so(customer: Customer) -> None:
    filtered = run(customer, "sim-content-filter")
    assert filtered["status"] == "completed"
    assert filtered["output_text"] == ""
    assert filtered["response"]["body"]["choices"][0]["finish_reason"] == "content_filter"
    cut = run(customer, "sim-truncated")
    assert cut["status"] == "completed"
    assert cut["response"]["body"]["choices"][0]["finish_reason"] == "length"


def test_a_slow_answer_is_an_answer(customer: Customer) -> None:
    assert run(customer, "sim-latency-300ms-tokens-20-per-token-10ms")["status"] == "completed"
