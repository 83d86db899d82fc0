"""Single jobs over HTTP: submitted, waited for, read, listed, cancelled."""

import hashlib
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import psycopg
import pytest

from local.stack import Stack
from tests.conftest import NewCustomer
from tests.customer import Customer, answer, refusal
from tests.sleeping import workers_asleep
from tests.waiting import wait_for

# Of the models sim*, in local/prices.toml: dollars for a million tokens.
PROMPT_PRICE, CACHED_PRICE, COMPLETION_PRICE = Decimal("0.15"), Decimal("0.075"), Decimal("0.60")
MESSAGES = [{"role": "user", "content": "Name a colour."}]


def provider_calls(stack: Stack, body: bytes) -> int:
    """How often the provider was called with this body."""
    address = stack.env["PROVIDER_URL"].removesuffix("/v1") + "/_sim/calls/" + hashlib.sha256(body).hexdigest()
    with httpx2.Client(trust_env=False) as http:
        calls: int = http.get(address).json()["calls"]
        return calls


def test_a_job_is_accepted_with_its_address_and_finishes_with_everything_about_it(customer: Customer) -> None:
    response = customer.post("/v1/jobs", {"model": "sim", "prompt": "Hello there", "metadata": {"order": "17"}})
    assert response.status_code == 202
    accepted = answer(response)
    assert response.headers["location"] == f"/v1/jobs/{accepted['id']}"
    assert accepted["status"] in ("queued", "in_progress", "completed")

    job = customer.ended_job(accepted["id"])
    body = job["response"]["body"]
    assert job["object"] == "job"
    assert job["status"] == "completed"
    assert job["endpoint"] == "/v1/chat/completions"
    assert job["model"] == "sim"
    assert job["metadata"] == {"order": "17"}
    assert job["output_text"] == body["choices"][0]["message"]["content"] != ""
    assert job["response"]["status_code"] == 200
    assert job["response"]["request_id"].startswith("req_")
    assert job["error"] is None
    assert job["attempts"] == 1
    assert job["created_at"] == job["queued_at"] <= job["started_at"] <= job["finished_at"]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/responses", {"input": "Name a colour."}),
        ("/v1/responses", {"input": [{"role": "user", "content": "Name a colour."}], "instructions": "Be brief."}),
        ("/v1/completions", {"prompt": "Name a colour."}),
        ("/v1/completions", {"prompt": ["Name a colour.", "Name another."]}),
        ("/v1/embeddings", {"input": "A colour."}),
        ("/v1/embeddings", {"input": ["A colour.", "Another."], "encoding_format": "base64"}),
    ],
)
def test_each_endpoint_takes_the_providers_own_json_and_gives_the_providers_own_answer(
    customer: Customer, endpoint: str, body: dict[str, Any]
) -> None:
    job = customer.submit({"endpoint": endpoint, "body": {"model": "sim", **body}}, wait=30)
    assert job["status"] == "completed"
    assert job["endpoint"] == endpoint
    assert job["response"]["body"]["model"] == "sim"
    assert (job["output_text"] is None) == (endpoint == "/v1/embeddings")
    used = job["response"]["body"]["usage"]
    assert job["usage"]["prompt_tokens"] == used.get("prompt_tokens", used.get("input_tokens")) > 0
    assert job["usage"]["completion_tokens"] == used.get("completion_tokens", used.get("output_tokens", 0))
    assert job["usage"]["total_tokens"] == used["total_tokens"]


def test_what_was_submitted_is_what_the_provider_gets_once(stack: Stack, customer: Customer) -> None:
    body = {
        "messages": MESSAGES,
        "model": "sim",
        "n": 2,
        "user": "Zoë ☃",
        "max_tokens": 9,
        "odd": [None, 1.5, {"a": []}],
    }
    customer.submit({"endpoint": "/v1/chat/completions", "body": body}, wait=30)
    assert provider_calls(stack, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) == 1


def test_the_short_form_becomes_a_chat_completion_with_its_fields(stack: Stack, customer: Customer) -> None:
    fields = {"max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["END"]}
    sent = {"model": "sim", "system": "Be brief.", "prompt": "Tell me about bees.", **fields}
    job = customer.submit(sent, wait=30)
    assert job["response"]["body"]["choices"][0]["finish_reason"] == "length"
    assert job["usage"]["completion_tokens"] == 7
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me about bees."}]
    expected = {"model": "sim", "messages": messages, **fields}
    order = ("model", "messages", "max_tokens", "temperature", "top_p", "seed", "stop")
    body = json.dumps({name: expected[name] for name in order}, separators=(",", ":")).encode()
    assert provider_calls(stack, body) == 1


def test_a_response_format_reaches_the_provider(customer: Customer) -> None:
    sent = {"model": "sim", "prompt": "As JSON.", "response_format": {"type": "json_object"}}
    assert isinstance(json.loads(customer.submit(sent, wait=30)["output_text"]), dict)


@pytest.mark.parametrize("prompt", ["A short prompt.", "A prompt long enough that half of it is cached. " * 200])
def test_a_job_costs_exactly_what_its_receipt_says(
    customer: Customer, stack_database: psycopg.Connection, prompt: str
) -> None:
    job = customer.submit({"model": "sim", "prompt": prompt}, wait=30)
    usage = job["usage"]
    fresh = usage["prompt_tokens"] - usage["cached_tokens"]
    dollars = fresh * PROMPT_PRICE + usage["cached_tokens"] * CACHED_PRICE
    dollars += usage["completion_tokens"] * COMPLETION_PRICE
    assert Decimal(job["cost"]["usd"]) == dollars / 10**6
    assert job["cost"]["nano_usd"] == dollars * 1000
    assert (usage["cached_tokens"] > 0) == (len(prompt) > 5_000)

    assert job["receipt"] == usage | {
        "model": "sim",
        "unit_prices": {"prompt": "0.15", "cached": "0.075", "completion": "0.6"},
        "cost": job["cost"],
        "recorded_at": job["finished_at"],
    }
    record = stack_database.execute(
        "SELECT prompt_tokens, cached_tokens, completion_tokens, cost, prompt_price, cached_price, completion_price"
        " FROM usage_records WHERE batch_id = %s",
        [UUID(job["id"].removeprefix("job_"))],
    ).fetchall()
    tokens = (usage["prompt_tokens"], usage["cached_tokens"], usage["completion_tokens"])
    assert record == [(*tokens, dollars * 1000, 150_000_000, 75_000_000, 600_000_000)]


def test_a_model_without_a_known_price_has_tokens_and_no_cost(customer: Customer) -> None:
    job = customer.submit({"model": "nobody-sells-this", "prompt": "Hello"}, wait=30)
    assert job["usage"]["total_tokens"] > 0
    assert job["cost"] is None
    assert job["receipt"]["model"] == "nobody-sells-this"
    assert (job["receipt"]["unit_prices"], job["receipt"]["cost"]) == (None, None)


@pytest.mark.parametrize(
    "prefer", ["wait=30", "WAIT = 30", 'wait="30"', "respond-async, wait=30", "handling=lenient; wait=30"]
)
def test_a_request_that_prefers_to_wait_gets_the_finished_job(customer: Customer, prefer: str) -> None:
    response = customer.post("/v1/jobs", {"model": "sim-latency-100ms", "prompt": "Hi"}, {"Prefer": prefer})
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=30"
    assert response.json()["status"] == "completed"


def test_a_request_waits_no_longer_than_it_prefers(customer: Customer) -> None:
    response = customer.post("/v1/jobs", {"model": "sim-latency-60s", "prompt": "Hi"}, {"Prefer": "wait=1"})
    assert response.status_code == 202
    assert response.elapsed.total_seconds() < 10
    job = response.json()
    assert job["status"] in ("queued", "in_progress")
    customer.post(f"/v1/jobs/{job['id']}/cancel")


@pytest.mark.parametrize(
    "prefer",
    ["wait=0", "wait=61", "wait=-1", "wait=1.5", "wait=soon", "wait=", "wait=" + "9" * 50, "wait=00019999", "wait=٣"],
)
def test_a_wait_outside_of_1_to_60_seconds_is_refused_and_nothing_is_submitted(
    new_customer: NewCustomer, prefer: str
) -> None:
    customer = new_customer()
    headers = [(b"Prefer", prefer.encode())]
    error = refusal(customer.http.post("/v1/jobs", json={"model": "sim", "prompt": "Hi"}, headers=headers), 400)
    assert error["param"] == "Prefer"
    assert "1 to 60" in error["message"]
    assert answer(customer.get("/v1/jobs"))["data"] == []


def ids_over_pages(customer: Customer, **params: str | int) -> list[str]:
    """The ids of every page, followed by the cursor to the last."""
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = answer(customer.get("/v1/jobs", **params, **after))
        assert page["object"] == "list"
        found += [job["id"] for job in page["data"]]
        assert page["first_id"] == (page["data"][0]["id"] if page["data"] else None)
        if not page["has_more"]:
            return found
        assert len(page["data"]) == params["limit"]
        after = {"after": page["last_id"]}


def test_the_pages_of_a_list_hold_every_job_exactly_once_also_while_more_are_submitted(
    new_customer: NewCustomer,
) -> None:
    customer = new_customer()
    models = ["sim", "sim-400", "sim", "sim", "sim-400", "sim", "sim"]
    jobs = [customer.submit({"model": model, "prompt": f"{number}"}) for number, model in enumerate(models)]
    for job in jobs:
        customer.ended_job(job["id"])
    every = {job["id"] for job in jobs}
    failed = {job["id"] for job, model in zip(jobs, models, strict=True) if model == "sim-400"}

    first = answer(customer.get("/v1/jobs", limit=3))
    later = customer.submit({"model": "sim", "prompt": "later"}, wait=30)["id"]
    rest = ids_over_pages(customer, limit=100, after=first["last_id"])
    seen = [job["id"] for job in first["data"]] + rest
    assert later not in seen
    assert len(seen) == len(set(seen))
    assert set(seen) == every

    for limit in (1, 2, 3, 8, 100):
        listed = ids_over_pages(customer, limit=limit)
        assert listed == [later, *seen]
        assert ids_over_pages(customer, limit=limit, status="failed") == [id_ for id_ in listed if id_ in failed]
        assert ids_over_pages(customer, limit=limit, status="completed") == [id_ for id_ in listed if id_ not in failed]
    for status in ("queued", "in_progress", "cancelled", "expired"):
        assert ids_over_pages(customer, limit=100, status=status) == []
    assert answer(customer.get("/v1/jobs", limit=0)) == {
        "object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "9" * 900}, "limit"),
        ({"limit": "000000000999"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"status": "done"}, "status"),
        ({"status": ""}, "status"),
        ({"after": "job_1"}, "after"),
        ({"after": "\0"}, "after"),
        ({"after": "batch_" + "0" * 32}, "after"),
    ],
)
def test_a_list_request_that_means_nothing_is_refused_naming_the_parameter(
    customer: Customer, params: dict[str, str], param: str
) -> None:
    error = refusal(customer.get("/v1/jobs", **params), 400)
    assert error["param"] == param
    assert param in error["message"]


def test_a_queued_job_is_listed_as_queued_and_cancelled_at_once(
    stack: Stack, new_customer: NewCustomer, stack_database: psycopg.Connection
) -> None:
    customer = new_customer()
    with workers_asleep(stack):
        job = customer.submit({"model": "sim", "prompt": "Never run"})
        assert job["status"] == "queued"
        assert ids_over_pages(customer, limit=10, status="queued") == [job["id"]]
        cancelled = answer(customer.post(f"/v1/jobs/{job['id']}/cancel"))
        assert cancelled["status"] == "cancelled"
        assert cancelled["error"] == {"code": "cancelled", "message": "The job was cancelled."}
        assert cancelled["attempts"] == 0
        assert ids_over_pages(customer, limit=10, status="queued") == []
        assert ids_over_pages(customer, limit=10, status="cancelled") == [job["id"]]
    batch_id = UUID(job["id"].removeprefix("job_"))
    assert stack_database.execute("SELECT outcome FROM results WHERE batch_id = %s", [batch_id]).fetchall() == [
        ("cancelled",)
    ]
    # Other work after it shows that the worker is awake and has passed it by.
    customer.submit({"model": "sim", "prompt": "Run"}, wait=30)
    assert customer.job(job["id"])["attempts"] == 0


def test_a_job_in_flight_is_cancelled_as_soon_as_its_worker_hears(customer: Customer) -> None:
    job = customer.submit({"model": "sim-latency-60s", "prompt": "Long"})
    wait_for(lambda: customer.job(job["id"]), lambda found: found["status"] == "in_progress")
    answer(customer.post(f"/v1/jobs/{job['id']}/cancel"))
    cancelled = customer.ended_job(job["id"])
    assert cancelled["status"] == "cancelled"
    assert cancelled["attempts"] == 1
    assert cancelled["usage"] is None
    assert cancelled["receipt"] is None
    again = refusal(customer.post(f"/v1/jobs/{job['id']}/cancel"), 409)
    assert again["type"] == "conflict_error"


def test_a_finished_job_cannot_be_cancelled_and_clients_are_told_not_to_ask_again(customer: Customer) -> None:
    job = customer.submit({"model": "sim", "prompt": "Done"}, wait=30)
    response = customer.post(f"/v1/jobs/{job['id']}/cancel")
    error = refusal(response, 409)
    assert response.headers["x-should-retry"] == "false"
    assert "completed" in error["message"]
    assert customer.job(job["id"]) == job


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/jobs/{id}"), ("POST", "/v1/jobs/{id}/cancel")])
def test_another_accounts_job_looks_like_an_unknown_one(
    customer: Customer, new_customer: NewCustomer, method: str, path: str
) -> None:
    theirs = new_customer().submit({"model": "sim", "prompt": "Secret"}, wait=30)["id"]
    unknown = "job_" + "0" * 32
    bodies = [
        refusal(customer.http.request(method, path.format(id=job_id)), 404)["message"].replace(job_id, "ID")
        for job_id in (theirs, unknown)
    ]
    assert bodies == ["There is no job 'ID'."] * 2


@pytest.mark.parametrize(
    "job_id",
    [
        *("job_", "job", "1", "batch_" + "0" * 32, "job_" + "g" * 32, "job_" + "0" * 31, "job_" + "0" * 2000),
        *(f"job_{'0' * 32}_{seq}" for seq in ("1", "x", "-1", "", "9" * 40)),
        *("%00", "%ff%fe", "..%2f.."),
    ],
)
def test_an_id_that_is_no_id_is_not_found(customer: Customer, job_id: str) -> None:
    for response in (customer.get(f"/v1/jobs/{job_id}"), customer.post(f"/v1/jobs/{job_id}/cancel")):
        refusal(response, 404)
