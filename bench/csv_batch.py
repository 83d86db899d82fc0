"""A large CSV in, and its results out, against bare COPY of the same rows; and the memory both take."""

import csv
import os
import tempfile
import time
from itertools import zip_longest
from pathlib import Path
from uuid import UUID

from bench.figures import Figure
from bench.memory import Growth, batch_figures
from bench.reviews import reviews_csv
from bench.rig import Rig, scaled, started, tell
from bench.sql_results import write_results

ROWS = 200_000
WARM_UP_ROWS = 2_000
ASKED_RATIO = 0.3
# No answer comes before the worker is killed: only reading the input is measured.
MODEL = "sim-latency-600s"
READ_BYTES = 64 * 1024
OURS = ("output", "status", "error", "prompt_tokens", "completion_tokens", "cost")


def csv_batch() -> list[Figure]:
    rows = scaled(ROWS)
    content = reviews_csv(rows)
    with tempfile.TemporaryDirectory(prefix="batchyard-bench-") as folder, started(workers=1) as rig:
        _warm_up(rig)
        # Twice, as the baseline: a new server's first large write also makes its files.
        _, first_seconds, _, batch_id = _upload(rig, content)
        rig.cancel(batch_id)
        rig.wait_idle()
        upload_seconds, ingest_seconds, reading, batch_id = _upload(rig, content)
        ingest_seconds = min(first_seconds, ingest_seconds)
        rig.kill_worker()
        rig.wait_idle()
        copy_seconds = rig.bare_copy(batch_id)
        write_results(rig.database, batch_id)
        rig.wait_idle()
        output = Path(folder) / "results.csv"
        download_seconds, sending = _download(rig, batch_id, output)
        _check(content, output)
    bare = rows / copy_seconds
    return [
        Figure("csv: upload, request to 202", len(content) / 2**20 / upload_seconds, "MiB/s"),
        Figure(
            f"csv: ingest, {rows:,} rows, 202 to in_progress",
            rows / ingest_seconds,
            "rows/s",
            baseline=bare,
            ratio_at_least=ASKED_RATIO,
        ),
        Figure(
            "csv: download, request to last byte",
            rows / download_seconds,
            "rows/s",
            baseline=bare,
            ratio_at_least=ASKED_RATIO,
        ),
        *batch_figures("csv", reading, sending),
    ]


def _warm_up(rig: Rig) -> None:
    """One small batch goes the whole way, and every process has its code and connections."""
    batch_id = rig.submit(reviews_csv(WARM_UP_ROWS), "sim")
    rig.wait_for(batch_id, "completed")
    _results(rig, batch_id, Path(os.devnull))
    rig.wait_idle()


def _upload(rig: Rig, content: bytes) -> tuple[float, float, Growth, UUID]:
    """Seconds from the request to its 202, and from there to in_progress; the growth of web and worker meanwhile."""
    with Growth(web=rig.pid("web"), worker=rig.pid("worker-1")) as growth:
        began = time.perf_counter()
        batch_id = rig.submit(content, MODEL)
        upload_seconds = time.perf_counter() - began
        batch = rig.wait_for(batch_id, "in_progress")
    ingest_seconds = (batch["in_progress_at"] - batch["created_at"]).total_seconds()
    tell(f"  {len(content) / 2**20:.0f} MiB up in {upload_seconds:.2f} s, read in {ingest_seconds:.2f} s")
    return upload_seconds, ingest_seconds, growth, batch_id


def _download(rig: Rig, batch_id: UUID, output: Path) -> tuple[float, Growth]:
    """Seconds from the request to the last byte, and the growth of web meanwhile."""
    with Growth(web=rig.pid("web")) as growth:
        began = time.perf_counter()
        _results(rig, batch_id, output)
        seconds = time.perf_counter() - began
    tell(f"  {output.stat().st_size / 2**20:.0f} MiB down in {seconds:.2f} s")
    return seconds, growth


def _results(rig: Rig, batch_id: UUID, output: Path) -> None:
    url = f"/v1/batches/batch_{batch_id.hex}/results"
    with rig.client.stream("GET", url, params={"format": "csv"}) as response, output.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_bytes(READ_BYTES):
            file.write(chunk)


def _check(content: bytes, output: Path) -> None:
    """Raises unless every row of the input is there once, in its order, as it was, with its output."""
    given = csv.reader(content.decode().splitlines(keepends=True))
    columns = len(next(given))
    with output.open(newline="", encoding="utf-8") as file:
        found = csv.reader(file)
        if tuple(next(found)[columns:]) != OURS:
            raise RuntimeError("the results have other columns than ours behind the customer's")
        for number, (was, row) in enumerate(zip_longest(given, found), 1):
            if was is None or row is None or row[:columns] != was or row[columns + 1] != "succeeded":
                raise RuntimeError(f"row {number} of the results is {row}, and of the input {was}")
            if not row[columns].startswith(f"Row {number} is "):
                raise RuntimeError(f"row {number} has the output of another: {row[columns]}")
