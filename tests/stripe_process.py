"""The stand-in for Stripe as tests run it: the real process, the real stripe package, and its own addresses."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stripe

KEY = "sk_test_of_the_tests"
METER = "batchyard_tokens"


class StandIn:
    """A stand-in's process. `data` is the file that a restart goes on with."""

    def __init__(self, data: Path | None = None, port: int = 0, webhook: tuple[str, str] | None = None) -> None:
        self.data = data
        self.webhook = webhook
        self.port = port
        self.start()

    def start(self) -> None:
        """Starts it, or starts it again, at the same port."""
        command = [sys.executable, "-m", "local.stripe", "--port", str(self.port)]
        if self.data is not None:
            command += ["--data", str(self.data)]
        env = {**os.environ}
        if self.webhook is not None:
            command += ["--webhook-url", self.webhook[0]]
            env["STRIPE_WEBHOOK_SECRET"] = self.webhook[1]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def stop(self) -> int:
        self.process.terminate()
        return self._ended()

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(10)

    def client(self, key: str = KEY, retries: int = 0) -> stripe.StripeClient:
        return stripe.StripeClient(key, base_addresses={"api": self.url}, max_network_retries=retries)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request; a body that is no text is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def admin(self, method: str, path: str, **body: Any) -> Any:
        """One of its own addresses, by what follows /_standin/."""
        status, _, content = self.ask(method, f"/_standin/{path}", body if method != "GET" else None)
        assert status == 200, content
        return json.loads(content)


def make_meter(standin: StandIn) -> None:
    """The meter that `billing setup` makes, for tests that need no more of it."""
    standin.client().v1.billing.meters.create(
        {
            "display_name": "Tokens",
            "event_name": METER,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
    )


@contextmanager
def running_standin(
    data: Path | None = None, port: int = 0, webhook: tuple[str, str] | None = None
) -> Iterator[StandIn]:
    """A stand-in that is stopped at the end; `webhook` is the URL and the secret of an endpoint for all events."""
    standin = StandIn(data, port, webhook)
    try:
        yield standin
    finally:
        standin.stop()
