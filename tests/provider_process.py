"""The simulated provider as tests run it: the real process, and HTTP to it."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import openai

from tests.waiting import wait_for

KEY = {"Authorization": "Bearer sk-test"}
CHAT = "/v1/chat/completions"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found


class Provider:
    """A provider's process, and what tests ask of it."""

    def __init__(self, *flags: str, command: tuple[str, ...]) -> None:
        started = [sys.executable, *command, "--port", "0", *flags]
        self.process = subprocess.Popen(started, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address = self.process.stdout.readline().split()[-1]
        self.port = int(address.removesuffix("/v1").rpartition(":")[2])

    def at_rest(self) -> Self:
        """With the settings it started with, no call in flight and no counts."""
        self.set()
        wait_for(self.calls, lambda calls: calls["in_flight"] == 0)
        self.ask("POST", "/_sim/reset", headers={})
        return self

    def stop(self) -> int:
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(10)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = KEY) -> Answer:
        connection = self.connect()
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def chat(self, model: str = "sim", prompt: str = "Say hello to Ada", **more: Any) -> Answer:
        return self.ask("POST", CHAT, chat_body(model, prompt, **more))

    def set(self, **settings: Any) -> Answer:
        return self.ask("PUT", "/_sim/settings", settings, {})

    def calls(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", "/_sim/calls", headers={}).json
        return found

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(api_key="sk-test", base_url=f"http://127.0.0.1:{self.port}/v1", max_retries=0, timeout=10)


def chat_body(model: str = "sim", prompt: str = "Say hello to Ada", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


@contextmanager
def running_provider(*flags: str, command: tuple[str, ...] = ("-m", "local.provider")) -> Iterator[Provider]:
    """A provider that is stopped at the end, whatever happens, and has to exit with 0."""
    provider = Provider(*flags, command=command)
    try:
        yield provider
    finally:
        status = provider.stop()
    assert status == 0
