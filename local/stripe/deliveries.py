"""Sends events to webhook endpoints, signed as Stripe signs them, until they answer 2xx.

At least once, in no promised order, as Stripe does. What waits is in the store, so that a restart goes on with it.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import time
from hashlib import sha256

import aiohttp

from local.stripe.store import Object, Store
from local.stripe.webhook_endpoints import SECRET

AT_ONCE = 16
TIMEOUT_SECONDS = 20
# Stripe takes three days for as many attempts as this; a stack on one machine is waited for.
MAX_ATTEMPTS = 24
LONGEST_DELAY_SECONDS = 60.0
LOOK_SECONDS = 0.25

log = logging.getLogger(__name__)


class Sender:
    """Looks for what is due until it is cancelled."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Something new may be due."""
        self._awake.set()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            while True:
                self._awake.clear()
                self._start_due(client)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), LOOK_SECONDS)

    def _start_due(self, client: aiohttp.ClientSession) -> None:
        for row in self._store.run(DUE, time.time(), AT_ONCE + len(self._in_flight)):
            if len(self._in_flight) >= AT_ONCE:
                return
            if row["seq"] not in self._in_flight:
                sending = self._send(client, row["seq"], row["event"], row["endpoint"], row["attempts"])
                self._in_flight[row["seq"]] = asyncio.create_task(sending)

    async def _send(self, client: aiohttp.ClientSession, seq: int, event_id: str, to: str, attempts: int) -> None:
        try:
            event, endpoint = self._store.find("event", event_id), self._store.find("webhook_endpoint", to)
            assert event is not None
            assert endpoint is not None
            if endpoint.get("deleted") or endpoint["status"] != "enabled":
                self._store.run(END, "given_up", attempts, "the endpoint is gone", seq)
                return
            told = await self._post(client, event, endpoint)
            if told.startswith("2"):
                self._store.run(END, "delivered", attempts + 1, told, seq)
            elif attempts + 1 >= MAX_ATTEMPTS:
                self._store.run(END, "given_up", attempts + 1, told, seq)
            else:
                due = time.time() + min(2.0**attempts, LONGEST_DELAY_SECONDS)
                self._store.run(AGAIN, due, told, seq)
        # One delivery that cannot be made is no reason to stop the others.
        except Exception:
            log.exception("delivery %d failed", seq)
            self._store.run(AGAIN, time.time() + LONGEST_DELAY_SECONDS, "failed here", seq)
        finally:
            del self._in_flight[seq]
            self.wake()

    async def _post(self, client: aiohttp.ClientSession, event: Object, endpoint: Object) -> str:
        body = json.dumps(event, indent=2)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (the stand-in of Batchyard)",
            "Stripe-Signature": signature(body, endpoint[SECRET], int(time.time())),
        }
        try:
            async with client.post(endpoint["url"], data=body, headers=headers, allow_redirects=False) as response:
                return str(response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return type(error).__name__


def signature(body: str, secret: str, moment: int) -> str:
    """The header Stripe-Signature, by this machine's own clock: a receiver looks how old it is."""
    signed = hmac.new(secret.encode(), f"{moment}.{body}".encode(), sha256).hexdigest()
    return f"t={moment},v1={signed}"


def listed(store: Store) -> list[Object]:
    """What became of every event, for each endpoint."""
    return [
        {name: row[name] for name in ("event", "type", "endpoint", "state", "attempts", "told")}
        for row in store.run(ALL)
    ]


DUE = """
    SELECT seq, event, endpoint, attempts FROM deliveries WHERE state = 'waiting' AND due <= ? ORDER BY due, seq LIMIT ?
"""
END = "UPDATE deliveries SET state = ?, attempts = ?, told = ? WHERE seq = ?"
AGAIN = "UPDATE deliveries SET attempts = attempts + 1, due = ?, told = ? WHERE seq = ?"
ALL = """
    SELECT deliveries.*, json_extract(objects.body, '$.type') AS type FROM deliveries
    JOIN objects ON objects.id = deliveries.event ORDER BY deliveries.seq
"""
