"""schemathesis sends what the OpenAPI document allows, and what it does not, to every operation of a running Batchyard.

It makes all its checks on every answer: no 5xx, no status, header, media type or field that is not documented, nothing
refused that the document allows and nothing taken that it does not, no operation without its key, none that another
account's key opens. OPENAPI_EXAMPLES says how many examples each operation has in each phase; a failure prints the seed
and the request as a curl command.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg

from common.plans import MOST_OUTPUT_TOKENS
from local.process import ROOT
from local.stack import Stack
from tests.conftest import NewCustomer
from tests.customer import Customer, answer

EXAMPLES = os.environ.get("OPENAPI_EXAMPLES", "10")
SECONDS = 60 * 60
CHAT = "/v1/chat/completions"


def prepared(customer: Customer) -> dict[str, list[str]]:
    """Ids of an account, by the parameters of paths that take them."""
    job = customer.submit({"model": "sim", "prompt": "Say hello."}, wait=30)
    requests = [
        {"custom_id": name, "body": {"model": name, "messages": [{"role": "user", "content": "Say hello."}]}}
        for name in ("sim", "sim-400")
    ]
    sent = {"endpoint": CHAT, "requests": requests}
    ended = customer.ended_batch(answer(customer.post("/v1/batches", sent))["id"])
    csv = customer.ended_batch(customer.create_batch(b"text\na\nb\n")["id"])
    refused = customer.ended_batch(answer(customer.post("/v1/batches", {"endpoint": CHAT, "requests": [1]}))["id"])
    return {
        "job_id": [job["id"], customer.submit({"model": "sim-latency-2s", "prompt": "Wait."})["id"]],
        "batch_id": [ended["id"], csv["id"], refused["id"]],
        "file_id": [ended["output_file_id"], ended["error_file_id"], csv["input_file_id"]],
        "model_id": ["sim"],
    }


def configuration(folder: Path, customers: list[Customer]) -> Path:
    users = [
        {"name": f"user{number}", "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {customer.key}"}]}
        for number, customer in enumerate(customers)
    ]
    (folder / "keys.json").write_text(json.dumps({"auth": users}))
    known = prepared(customers[0])
    lines = [
        f"hooks = {json.dumps(str(ROOT / 'tests' / 'openapi_hooks.py'))}",
        "[auth.wfc]",
        f"path = {json.dumps(str(folder / 'keys.json'))}",
        f"peers = {json.dumps([user['name'] for user in users])}",
        "[dictionaries]",
        *(f"{name} = {{ values = {json.dumps(values)} }}" for name, values in known.items()),
        "[parameters]",
        *(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.5 }}' for name in known),
        # A key that has come with another request is what no schema knows.
        "[checks.positive_data_acceptance]",
        'expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429]',
        # Every check is made unless it is named here. GET of this address is the batch "estimate", which there is not.
        "[[operations]]",
        'include-path = "/v1/batches/estimate"',
        "[operations.checks]",
        "allow_header_conformance.enabled = false",
    ]
    path = folder / "schemathesis.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_no_request_gets_an_answer_that_is_not_documented(
    stack: Stack, stack_database: psycopg.Connection, new_customer: NewCustomer, tmp_path: Path
) -> None:
    customers = [new_customer(), new_customer()]
    # Whatever an account's limits refuse tells nothing of the rest.
    limits = {"max_output_tokens": MOST_OUTPUT_TOKENS, "tokens_per_month": 2**53, "max_queued_tokens": 2**53}
    stack_database.execute(
        "UPDATE accounts SET overrides = %s::jsonb"
        " WHERE id IN (SELECT account_id FROM api_keys WHERE prefix = ANY(%s))",
        [json.dumps(limits), [customer.key.rpartition("_")[0] for customer in customers]],
    )
    path = configuration(tmp_path, customers)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(path), "--no-color", "run"),
        *(f"{stack.base_url}/openapi.json", "--continue-on-failure"),
        # One worker: Python 3.11 cannot parse in two threads at once, which hypothesis does.
        *("--max-examples", EXAMPLES, "--workers", "1"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    print(run.stdout, run.stderr)
    assert run.returncode == 0
    assert (found := re.search(r"(\d+) generated", run.stdout))
    assert int(found[1]) >= 1_000
