"""The examples of docs/webhooks.md, each as a program of its own, and `webhooks listen`, do what it says of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from common import webhook_secrets
from common.webhook_events import EVENT_TYPES
from local.process import ROOT
from tests.sdk import node_program

SECRET, OTHER = webhook_secrets.new(), webhook_secrets.new()
BODY = '{"id":"evt_1","object":"event","created_at":1,"type":"job.completed","data":{"id":"job_1","result":"é"}}'
DOCS = (ROOT / "docs" / "webhooks.md").read_text()
EXAMPLES = re.findall(r"^```(python|js)\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)

# What a program adds to an example to say which of the webhooks in its input verify.
ASK_PYTHON = """
import json as _json, sys as _sys
for _case in _json.load(_sys.stdin):
    try:
        _event = verified(_case["headers"], _case["body"].encode(), _case["secret"])
    except Exception as _error:
        print("refused", type(_error).__name__)
    else:
        print("verified", _event["id"] if isinstance(_event, dict) else _event.id)
"""
ASK_NODE = """
import { readFileSync } from "node:fs";
for (const { headers, body, secret } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    console.log("verified", verified(headers, Buffer.from(body), secret).id);
  } catch (error) {
    console.log("refused", error.message);
  }
}
"""


def headers(body: str = BODY, secrets: tuple[str, ...] = (SECRET,), age: int = 0) -> dict[str, str]:
    moment = int(time.time()) - age
    signature = webhook_secrets.signatures(secrets, "evt_1", moment, body.encode())
    return {"webhook-id": "evt_1", "webhook-timestamp": str(moment), "webhook-signature": signature}


def cases() -> dict[str, dict[str, Any]]:
    """Webhooks by what they are; those that verify say so."""
    good = headers()
    return {
        "verifies": {"headers": good, "body": BODY, "secret": SECRET},
        "verifies while rotated": {"headers": headers(secrets=(OTHER, SECRET)), "body": BODY, "secret": SECRET},
        "another body": {"headers": good, "body": BODY.replace("job_1", "job_2"), "secret": SECRET},
        "another secret": {"headers": good, "body": BODY, "secret": OTHER},
        "another id": {"headers": good | {"webhook-id": "evt_2"}, "body": BODY, "secret": SECRET},
        "too old": {"headers": headers(age=400), "body": BODY, "secret": SECRET},
        "from the future": {"headers": headers(age=-400), "body": BODY, "secret": SECRET},
        "no time": {"headers": good | {"webhook-timestamp": "soon"}, "body": BODY, "secret": SECRET},
    }


@pytest.mark.parametrize(("language", "example"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_each_example_of_the_docs_verifies_what_we_sign_and_nothing_else(language: str, example: str) -> None:
    sent = json.dumps(list(cases().values()))
    if language == "js":
        done = node_program.run_module(example + ASK_NODE, sent)
    else:
        done = subprocess.run(
            [sys.executable, "-c", example + ASK_PYTHON], input=sent, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stdout
    answers = dict(zip(cases(), done.stdout.splitlines(), strict=True))
    for case, answer in answers.items():
        assert answer.split()[0] == ("verified" if case.startswith("verifies") else "refused"), answers
    assert answers["verifies"] == "verified evt_1"


def test_the_docs_have_an_example_of_each_kind_and_the_plain_ones_are_ten_lines() -> None:
    assert [language for language, _ in EXAMPLES] == ["python", "python", "python", "js"]
    assert "standardwebhooks" in EXAMPLES[0][1]
    assert "client.webhooks.unwrap" in EXAMPLES[1][1]
    for _, example in EXAMPLES[2:]:
        function = example.partition("verified(")[2].splitlines()[1:]
        assert len([line for line in function if line.strip() not in ("", "}")]) <= 10


def test_the_docs_name_every_event_and_no_other() -> None:
    table = DOCS.partition("\n## Events")[2].partition("\n## ")[0]
    named = set(re.findall(r"`((?:batch|job|usage|webhook_endpoint)\.\w+)`", table))
    assert named == set(EVENT_TYPES)


@contextmanager
def listening(env: dict[str, str], *secrets: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`webhooks listen` on a free port: its URL and the process, whose output is what it prints."""
    options = [part for secret in secrets for part in ("--secret", secret)]
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "webhooks", "listen", "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("listening on http://127.0.0.1:"), first
            yield first.split()[-1], process
        finally:
            process.kill()


def printed(process: subprocess.Popen[str]) -> str:
    """The lines of one webhook."""
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while not lines[-1].startswith(("}", "no JSON")):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    return "".join(lines)


def test_the_listener_prints_what_arrives_and_whether_it_verifies(env: dict[str, str]) -> None:
    with (
        listening(env, SECRET, OTHER) as (url, process),
        httpx2.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        for secret in (SECRET, OTHER):
            assert http.post("/any/path", content=BODY, headers=headers(secrets=(secret,))).status_code == 204
            shown = printed(process)
            assert " verified evt_1\n" in shown
            assert json.loads(shown.partition("\n")[2]) == json.loads(BODY)
        for case, says in {
            "another body": "no signature",
            "another id": "no signature",
            "too old": "over 300 s",
            "from the future": "over 300 s",
            "no time": "not in Unix seconds",
        }.items():
            sent = cases()[case]
            assert http.post("/", content=sent["body"], headers=sent["headers"]).status_code == 400
            shown = printed(process)
            assert "NOT VERIFIED" in shown
            assert says in shown
        assert http.post("/", content=BODY).status_code == 400
        assert "there is no header webhook-id" in printed(process)
        assert http.post("/", content=b"no JSON \x1b[2J", headers={"webhook-id": "\x7f"}).status_code == 400
        shown = printed(process)
        assert "no JSON \\x1b[2J\n" in shown
        assert "\x7f" not in shown
        assert http.post("/", content=b"x" * 1_048_577).status_code == 413
        assert http.get("/").status_code == 501
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_the_listener_refuses_what_is_no_secret_without_repeating_it(env: dict[str, str], tmp_path: Path) -> None:
    for secret in ("whsec_abc", "c2VjcmV0", "whsec_é"):
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "webhooks", "listen", "--port", "0"],
            cwd=ROOT,
            env=os.environ | env | {"WEBHOOK_SECRET": secret},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "A secret is whsec_ and base64" in done.stderr
        assert secret not in done.stderr + done.stdout
