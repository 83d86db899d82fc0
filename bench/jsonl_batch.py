"""A batch file of a million requests in, and its output file out, against bare COPY of the same rows."""

import json
import os
import tempfile
import time
from pathlib import Path
from uuid import UUID

from bench.figures import Figure
from bench.memory import Growth, batch_figures
from bench.reviews import reviews
from bench.rig import Rig, scaled, started, tell
from bench.sql_results import write_results

ROWS = 1_000_000
WARM_UP_ROWS = 2_000
# The fastest of two counts, as of the bare COPYs: a machine that slows down meanwhile slows one side alone.
ROUNDS = 2
ASKED_RATIO = 0.4
ASKED_ROWS_PER_SECOND = 30_000
# No answer comes before the worker is killed: only reading the input is measured.
MODEL = "sim-latency-600s"
ENDPOINT = "/v1/chat/completions"
SYSTEM = "Classify the sentiment of the review as positive, neutral or negative."
READ_BYTES = 64 * 1024


def jsonl_batch() -> list[Figure]:
    rows = scaled(ROWS)
    with tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder, started(workers=1) as rig:
        sent, got = Path(folder) / "requests.jsonl", Path(folder) / "output.jsonl"
        _warm_up(rig, sent)
        _write_requests(sent, rows, MODEL)
        # Rows of the first keep the worker's places, and it has nothing to do for them while the second comes.
        with Growth(web=rig.pid("web"), worker=rig.pid("worker-1")) as reading:
            rounds = [_submit(rig, sent) for _ in range(ROUNDS)]
        whole_seconds, upload_seconds, ingest_seconds, batch_id = min(rounds)
        rig.kill_worker()
        rig.wait_idle()
        copy_seconds = rig.bare_copy(batch_id)
        write_results(rig.database, batch_id)
        rig.wait_idle()
        download_seconds, sending = _download(rig, batch_id, got)
        _check(got, rows)
        mebibytes = sent.stat().st_size / 2**20
    return [
        Figure(
            f"jsonl: {rows:,} requests, first byte of the upload to in_progress",
            rows / whole_seconds,
            "rows/s",
            baseline=rows / copy_seconds,
            ratio_at_least=ASKED_RATIO,
        ),
        Figure("jsonl: of this the upload", mebibytes / upload_seconds, "MiB/s"),
        Figure("jsonl: of this the ingest", rows / ingest_seconds, "rows/s", baseline=rows / copy_seconds),
        Figure(
            "jsonl: output file, request to last byte",
            rows / download_seconds,
            "rows/s",
            value_at_least=ASKED_ROWS_PER_SECOND,
        ),
        *batch_figures("jsonl", reading, sending),
    ]


def _warm_up(rig: Rig, requests: Path) -> None:
    """One small batch goes the whole way, and every process has its code and connections."""
    _write_requests(requests, WARM_UP_ROWS, "sim")
    batch_id = _create(rig, _upload(rig, requests))
    rig.wait_for(batch_id, "completed")
    _output(rig, batch_id, Path(os.devnull))
    rig.wait_idle()


def _write_requests(path: Path, rows: int, model: str) -> None:
    """A batch file with bodies of about 400 bytes."""
    with path.open("w") as file:
        for number, (_, product, _, review) in enumerate(reviews(rows), 1):
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{product}: {review}"}]
            body = {"model": model, "messages": messages, "max_tokens": 60}
            line = {"custom_id": _custom_id(number), "method": "POST", "url": ENDPOINT, "body": body}
            file.write(json.dumps(line) + "\n")


def _custom_id(number: int) -> str:
    return f"request-{number}"


def _submit(rig: Rig, requests: Path) -> tuple[float, float, float, UUID]:
    """Seconds from the first byte of the upload until the batch is in_progress, and seconds of these to upload, and
    from the batch's creation on."""
    began = time.perf_counter()
    file_id = _upload(rig, requests)
    upload_seconds = time.perf_counter() - began
    batch_id = _create(rig, file_id)
    batch = rig.wait_for(batch_id, "in_progress")
    whole_seconds = time.perf_counter() - began
    ingest_seconds = (batch["in_progress_at"] - batch["created_at"]).total_seconds()
    size = requests.stat().st_size / 2**20
    tell(f"  {size:.0f} MiB up in {upload_seconds:.2f} s, read in {ingest_seconds:.2f} s, {whole_seconds:.2f} s in all")
    return whole_seconds, upload_seconds, ingest_seconds, batch_id


def _upload(rig: Rig, requests: Path) -> str:
    """The id of the file, which is sent as it is read from the disk."""
    with requests.open("rb") as content:
        answer = rig.client.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": (requests.name, content, "application/jsonl")}
        )
    return str(answer.raise_for_status().json()["id"])


def _create(rig: Rig, file_id: str) -> UUID:
    wanted = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
    answer = rig.client.post("/v1/batches", json=wanted).raise_for_status()
    return UUID(answer.json()["id"].removeprefix("batch_"))


def _download(rig: Rig, batch_id: UUID, output: Path) -> tuple[float, Growth]:
    """Seconds from the request to the last byte, and the growth of web meanwhile."""
    with Growth(web=rig.pid("web")) as growth:
        began = time.perf_counter()
        told = _output(rig, batch_id, output)
        seconds = time.perf_counter() - began
    size = output.stat().st_size
    if told != size:
        raise RuntimeError(f"the output file says that it has {told:,} bytes, and has {size:,}")
    tell(f"  {size / 2**20:.0f} MiB down in {seconds:.2f} s")
    return seconds, growth


def _output(rig: Rig, batch_id: UUID, output: Path) -> int:
    """Fetches the output file of an ended batch. Returns its Content-Length."""
    batch = rig.client.get(f"/v1/batches/batch_{batch_id.hex}").raise_for_status().json()
    url = f"/v1/files/{batch['output_file_id']}/content"
    with rig.client.stream("GET", url) as response, output.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_bytes(READ_BYTES):
            file.write(chunk)
        return int(response.headers["content-length"])


def _check(output: Path, rows: int) -> None:
    """Raises unless every request has its line once, in its order, with its own answer."""
    number = 0
    with output.open("rb") as file:
        for number, line in enumerate(file, 1):
            found = json.loads(line)
            text = found["response"]["body"]["choices"][0]["message"]["content"]
            if found["custom_id"] != _custom_id(number) or not text.startswith(f"Row {number} is "):
                raise RuntimeError(f"line {number} of the output is {line[:300]!r}")
    if number != rows:
        raise RuntimeError(f"the output has {number:,} lines, and the input {rows:,}")
