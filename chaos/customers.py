"""The customers' programs: they submit their parts as careful clients do, so that what was accepted is known.

Each request has an idempotency key and is sent until it is accepted, whatever happens to the connection or the server:
that is all a program must do for its jobs to run once.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from chaos.parts import ENDPOINT, MAX_TOKENS, MODEL, PROMPT, Part, body

# A program that waits longer than this for an answer will not have it.
ANSWER_SECONDS = 30
PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
LOOK_SECONDS = 0.1


@dataclass(slots=True)
class Accepted:
    """What the API said yes to, by the id of its batch or job; and how often requests had to be sent again."""

    ids: dict[Part, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    sent_again: int = 0


class Customers:
    """One thread for each account. A part is sent once `may_send` says so of the number of jobs submitted before it."""

    def __init__(
        self, base_url: str, keys: Sequence[str], parts: Sequence[Part], seed: int, may_send: Callable[[int], bool]
    ) -> None:
        self.accepted = Accepted()
        self._base_url = base_url
        self._seed = seed
        self._may_send = may_send
        self._given_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(key, _of(account, parts)), daemon=True)
            for account, key in enumerate(keys)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def give_up(self) -> None:
        """Nothing is sent any more."""
        self._given_up.set()
        for thread in self._threads:
            thread.join()

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self, key: str, parts: Sequence[tuple[int, Part]]) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=self._base_url, headers=headers, timeout=ANSWER_SECONDS, trust_env=False) as client:
            for submitted_before, part in parts:
                while not self._may_send(submitted_before):
                    if self._given_up.wait(LOOK_SECONDS):
                        return
                accepted = self._submit(client, part)
                if accepted is not None:
                    self.accepted.ids[part] = accepted

    def _submit(self, client: httpx2.Client, part: Part) -> str | None:
        key = part.key(self._seed)
        match part.kind:
            case "csv":
                form = {"model": MODEL, "prompt": PROMPT, "max_tokens": str(MAX_TOKENS)}
                file = {"file": ("things.csv", part.rows(), "text/csv")}
                return self._send(client, "/v1/batches", key, data=form, files=file)
            case "jsonl":
                file = {"file": ("things.jsonl", part.lines(), "application/jsonl")}
                file_id = self._send(client, "/v1/files", f"{key}-file", data={"purpose": "batch"}, files=file)
                if file_id is None:
                    return None
                wanted = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
                return self._send(client, "/v1/batches", key, json=wanted)
            case "inline":
                return self._send(client, "/v1/batches", key, json={"endpoint": ENDPOINT, "requests": part.requests()})
            case "single":
                return self._send(client, "/v1/jobs", key, json={"endpoint": ENDPOINT, "body": body(part.numbers[0])})

    def _send(self, client: httpx2.Client, path: str, key: str, **content: Any) -> str | None:
        """The id of what was accepted; None when it was refused for good, or when all is over."""
        pause = PAUSE_SECONDS
        while not self._given_up.is_set():
            try:
                response = client.post(path, headers={"Idempotency-Key": key}, **content)
            except httpx2.TransportError:
                # Nobody knows whether it was done: the key tells when it is sent again.
                wait = pause
            else:
                if response.status_code < 300:
                    return str(response.json()["id"])
                if response.status_code not in (409, 429, 502, 503, 504):
                    self.accepted.refused.append(f"{path}: {response.status_code} {response.text}")
                    return None
                wait = float(response.headers.get("retry-after", pause))
            self.accepted.sent_again += 1
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)
            self._given_up.wait(wait)
        return None


def _of(account: int, parts: Sequence[Part]) -> list[tuple[int, Part]]:
    """The parts of an account, each with the number of jobs that all customers submit before it."""
    found: list[tuple[int, Part]] = []
    submitted = 0
    for part in parts:
        if part.account == account:
            found.append((submitted, part))
        submitted += len(part.numbers)
    return found
