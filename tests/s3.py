"""An S3 that really runs: moto's server, with one bucket, spoken to over HTTP."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.waiting import wait_for

BUCKET = "batchyard"
_ADDRESS = re.compile(r"http://[\w.]+:\d+")


class S3:
    """A running server and its bucket."""

    def __init__(self, endpoint: str) -> None:
        self.env = {
            "STORAGE_URL": f"s3://{BUCKET}/a/prefix",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "anything",
        }
        self._bucket = f"{endpoint}/{BUCKET}"

    def create_bucket(self) -> None:
        httpx2.put(self._bucket, trust_env=False).raise_for_status()

    def stored(self) -> list[str]:
        """The keys of what is stored."""
        return self._keys({"list-type": "2"})

    def unfinished(self) -> list[str]:
        """The keys of what is half uploaded, which S3 keeps, and charges for, until it is aborted."""
        return self._keys({"uploads": ""})

    def _keys(self, asked: dict[str, str]) -> list[str]:
        answer = httpx2.get(self._bucket, params=asked, trust_env=False).raise_for_status()
        return re.findall("<Key>([^<]*)</Key>", answer.text)


@contextmanager
def running_s3(log: Path) -> Iterator[S3]:
    """A server that is stopped at the end, whatever happens. It chooses its port and says it in its log."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "moto.server", "--port", "0"]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        started = wait_for(lambda: _ADDRESS.search(log.read_text()), lambda found: found is not None, 60)
        assert started is not None
        s3 = S3(started[0])
        s3.create_bucket()
        yield s3
    finally:
        process.kill()
        process.wait()
