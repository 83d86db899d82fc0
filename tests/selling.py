"""An installation that sells through the stand-in for Stripe, with processes that really run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from common import billing_setup, credentials
from tests import stripe_lives
from tests.process_settings import process_settings
from tests.stripe_process import KEY, StandIn, running_standin
from tests.waiting import wait_for
from tests.web_process import WebProcess, web_process

DAY = 86_400


def settings_of(standin: StandIn) -> dict[str, str]:
    """What an installation is told of it."""
    return {
        "STRIPE_API_BASE": standin.url,
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_WEBHOOK_SECRET": stripe_lives.SECRET,
    }


def told_by(standin: StandIn, path: str) -> Any:
    """What a call answers, without the package that the product calls with."""
    status, _, content = standin.ask("GET", f"/v1/{path}", headers={"Authorization": f"Bearer {KEY}"})
    assert status == 200, content
    return json.loads(content)


@contextmanager
def shop(env: dict[str, str], folder: Path) -> Iterator[tuple[WebProcess, StandIn]]:
    """A web process and a stand-in that tell each other, where everything is set up that is to be sold."""
    with running_standin(folder / "stripe.sqlite") as standin:
        selling = env | settings_of(standin)
        with web_process(selling) as web:
            # It is told where to post only now that this is known.
            standin.stop()
            standin.webhook = (f"{web.url}/stripe/webhook", stripe_lives.SECRET)
            standin.start()
            with process_settings(selling | {"PUBLIC_URL": web.url}):
                list(billing_setup.run())
            yield web, standin


class Browser:
    """What a person does on Stripe's pages."""

    def press(self, url: str, action: str, **fields: str) -> int:
        return httpx2.post(url, data={"action": action, **fields}, trust_env=False, timeout=30).status_code


class Account:
    """An account's program, with a key that may see to billing."""

    def __init__(self, web: WebProcess, key: str) -> None:
        # What its row is found by.
        self.prefix = credentials.prefix_of(key)
        self._url = web.url
        self._headers = {"Authorization": f"Bearer {key}"}

    def post(self, path: str, **sent: str) -> httpx2.Response:
        return self._ask("POST", f"billing/{path}", sent)

    def post_under(self, idempotency_key: str, path: str, **sent: str) -> httpx2.Response:
        return self._ask("POST", f"billing/{path}", sent, {"Idempotency-Key": idempotency_key})

    def get(self, path: str) -> dict[str, object]:
        found: dict[str, object] = self._ask("GET", path).json()
        return found

    def _ask(
        self, method: str, path: str, sent: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        url = f"{self._url}/v1/{path}"
        headers = self._headers | (headers or {})
        return httpx2.request(method, url, json=sent, headers=headers, trust_env=False, timeout=60)

    def page(self, path: str, **sent: str) -> str:
        answer = self.post(path, **sent)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["url"])

    def wait_for(self, state: str, plan: str) -> dict[str, object]:
        """How it stands, as soon as it does so."""
        return wait_for(lambda: self.get("billing"), lambda found: (found["state"], found["plan"]) == (state, plan))
