"""`python -m local.demo`: the main job on this machine, through the public API: a CSV of prompts in, answers out.

With OPENAI_API_KEY (and OPENAI_BASE_URL) set it calls the real service, with 10 rows unless ROWS says otherwise.
"""

import csv
import io
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2

from local import environment
from local.errors import StackError, StopRequested
from local.process import ROOT
from local.stack import Stack

INPUT = ROOT / "examples" / "reviews.csv"
OUTPUT = Path("reviews-results.csv")
PROMPT = "Classify the sentiment of this review of {{product}} as positive, neutral or negative: {{review}}"
ALL_ROWS = 1_000
ROWS_AT_THE_REAL_SERVICE = 10
SIMULATED_LATENCY_SECONDS = "0.3"
SHOWN_ROWS = 3
SHOWN_CHARACTERS = 60
POLL_SECONDS = 0.1
LONGEST_SECONDS = 3_600


def main() -> None:
    """Sets up, runs, shows, stops. Exits 0 when every row has its answer."""
    simulated = environment.wants_simulated_provider(os.environ)
    rows = int(os.environ.get("ROWS") or (ALL_ROWS if simulated else ROWS_AT_THE_REAL_SERVICE))
    model = os.environ.get("MODEL", "gpt-4o-mini")
    os.environ.setdefault("SIM_LATENCY", SIMULATED_LATENCY_SECONDS)
    signal.signal(signal.SIGTERM, _stop)
    home = Path(tempfile.mkdtemp(prefix="batchyard-demo-"))
    try:
        with Stack(
            home / "home", deliverers=1, extra_env=os.environ, with_stripe=False, keep=False, tell=_say
        ) as stack:
            _say(f"{rows} rows of {_shown(INPUT)} as prompts for {model}" + (" (simulated)" if simulated else ""))
            complete = _run(stack, _first_rows(rows), model)
    except (StackError, StopRequested) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: stopped")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(0 if complete else 1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StopRequested(signal.Signals(number).name)


def _first_rows(rows: int) -> bytes:
    with INPUT.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(next(reader))
        writer.writerows(row for row, _ in zip(reader, range(rows), strict=False))
    return text.getvalue().encode()


def _run(stack: Stack, content: bytes, model: str) -> bool:
    headers = {"Authorization": f"Bearer {stack.env['API_KEY']}"}
    with httpx2.Client(base_url=stack.base_url, headers=headers, timeout=60) as client:
        fields = {"model": model, "prompt": PROMPT, "max_tokens": "60"}
        created = client.post("/v1/batches", data=fields, files={"file": (INPUT.name, content, "text/csv")})
        batch = _watch(stack, client, _checked(created)["id"])
        with client.stream("GET", f"/v1/batches/{batch['id']}/results", params={"format": "csv"}) as download:
            download.raise_for_status()
            with OUTPUT.open("wb") as file:
                for chunk in download.iter_bytes():
                    file.write(chunk)
    _show(batch, model)
    return bool(batch["status"] == "completed" and batch["counts"]["succeeded"] == batch["counts"]["total"])


def _watch(stack: Stack, client: httpx2.Client, batch_id: str) -> dict[str, Any]:
    """The batch once it has ended, with one line that tells how far it is meanwhile."""
    deadline = time.monotonic() + LONGEST_SECONDS
    told = 0.0
    while True:
        stack.tend()
        batch = _checked(client.get(f"/v1/batches/{batch_id}"))
        ended = batch["status"] in ("completed", "failed", "cancelled", "expired")
        if sys.stdout.isatty() or ended or time.monotonic() - told >= 1:
            told = time.monotonic()
            _tell_progress(batch, ended)
        if ended:
            return batch
        if time.monotonic() > deadline:
            raise StackError(f"the batch is still {batch['status']} after {LONGEST_SECONDS} s")
        # Between two looks, as a customer's program would poll.
        time.sleep(POLL_SECONDS)


def _checked(response: httpx2.Response) -> dict[str, Any]:
    if response.is_error:
        raise StackError(f"{response.request.method} {response.request.url}: {response.text.strip()}")
    answer: dict[str, Any] = response.json()
    return answer


def _tell_progress(batch: dict[str, Any], ended: bool) -> None:
    counts, tokens = batch["counts"], batch["usage"]["total_tokens"]
    done = counts["total"] - counts["pending"]
    seconds_left = max(0, (batch["estimated_completion_at"] or 0) - time.time()) if not ended else 0
    left = "done" if ended else f"ETA {seconds_left:3.0f} s" if batch["estimated_completion_at"] else "ETA   ?"
    line = (
        f"{batch['status']:<11} {done:>5}/{counts['total']:<5} {batch['rows_per_second']:>6.0f} rows/s"
        f" {tokens:>8,} tokens  ${batch['cost']['usd']:<10} {left}"
    )
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="\n" if ended else "", flush=True)
    else:
        _say(line)


def _show(batch: dict[str, Any], model: str) -> None:
    _say(f"\nthe first rows of {OUTPUT}:")
    with OUTPUT.open(newline="", encoding="utf-8") as file:
        for row, _ in zip(csv.DictReader(file), range(SHOWN_ROWS), strict=False):
            _say(f"  {row['review_id']}  {_short(row['review'])}\n      -> {_short(row['output'])}  [{row['status']}]")
    counts, usage = batch["counts"], batch["usage"]
    _say(
        f"\n{counts['succeeded']} of {counts['total']} rows succeeded, {counts['failed']} failed;"
        f" {usage['input_tokens']:,} prompt and {usage['output_tokens']:,} completion tokens,"
        f" ${batch['cost']['usd']}"
    )
    _say("\nthe same with curl, against a stack that `make up` started:")
    _say(
        '  curl $BASE_URL/v1/batches -H "Authorization: Bearer $API_KEY" \\\n'
        f"       -F file=@{_shown(INPUT)} -F model={model} -F max_tokens=60 \\\n       -F 'prompt={PROMPT}'"
    )


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_CHARACTERS else flat[: SHOWN_CHARACTERS - 1] + "…"


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
