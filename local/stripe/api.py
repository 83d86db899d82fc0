"""The API over HTTP: key, parameters, idempotency, faults, one transaction a call, and answers as Stripe's."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from aiohttp import web

from local.stripe import clocks, errors, faults, forms, lists, meter_events
from local.stripe.call import Call
from local.stripe.deliveries import Sender
from local.stripe.errors import RefusedError
from local.stripe.events import API_VERSION
from local.stripe.faults import AFTER, Fault
from local.stripe.forms import Params
from local.stripe.ids import new_id
from local.stripe.routes import ROUTES, Answer
from local.stripe.store import Store

MAX_BODY_BYTES = 2**20
LONGEST_KEY = 255
REMEMBERED_SECONDS = 24 * 3_600
METER_EVENTS = ("POST", "/v1/billing/meter_events")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Status, body, and headers of an answer.
Told = tuple[int, dict[str, Any], dict[str, str]]

log = logging.getLogger(__name__)


class Api:
    """Counts its calls since the process began: by path, by status and by fault."""

    def __init__(self, store: Store, sender: Sender, root: str) -> None:
        self._store = store
        self._sender = sender
        self._root = root
        self._store.run(FORGET, clocks.now(store) - REMEMBERED_SECONDS)
        self.counts: dict[str, Counter[str]] = {"by_route": Counter(), "by_status": Counter(), "by_fault": Counter()}

    def add_to(self, app: web.Application) -> None:
        for method, path, answer in ROUTES:
            app.router.add_route(method, path, self._handler(path, answer))
        app.router.add_route("*", "/v1/{anything:.*}", self._unknown)

    def _handler(self, path: str, answer: Answer) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.counts["by_route"][f"{request.method} {path}"] += 1
            return await self._handle(request, answer)

        return handle

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        refused = errors.no_address(request.method, request.path)
        self.counts["by_status"][str(refused.status)] += 1
        return web.json_response(refused.body(), status=refused.status)

    async def _handle(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        behaviour = faults.behaviour(self._store)
        fault = behaviour.strike(request.path)
        if behaviour.delay_seconds:
            await asyncio.sleep(behaviour.delay_seconds)
        call_id = new_id("req")
        try:
            status, body, headers = await self._answer(request, answer, call_id, fault)
        except RefusedError as refused:
            status, body, headers = refused.status, refused.body(), refused.headers
        # Whatever it is, the caller gets an answer.
        except Exception:
            log.exception("the stand-in failed at %s %s", request.method, request.path)
            told = errors.server_error()
            status, body, headers = told.status, told.body(), told.headers
        self._sender.wake()
        self.counts["by_status"][str(status)] += 1
        if fault is not None:
            self.counts["by_fault"][fault] += 1
        if fault in ("drop", "drop_after"):
            self.counts["by_status"][str(status)] -= 1
            if request.transport is not None:
                request.transport.abort()
        headers = {"Request-Id": call_id, "Stripe-Version": API_VERSION, **headers}
        return web.json_response(body, status=status, headers=headers)

    async def _answer(self, request: web.Request, answer: Answer, call_id: str, fault: Fault | None) -> Told:
        try:
            encoded = await request.text() if request.method == "POST" else request.rel_url.raw_query_string
        # The last is a client that is gone before it has sent all: nobody reads the answer.
        except (UnicodeDecodeError, LookupError, ConnectionError):
            raise errors.invalid("Invalid request: the body is no form in UTF-8.") from None
        except web.HTTPRequestEntityTooLarge:
            raise errors.too_large() from None
        _check_key(request)
        given = forms.parse(encoded)
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isascii()):
            raise errors.invalid("Invalid Idempotency-Key: it has at most 255 characters, all of ASCII.")
        expand = Params(given).texts("expand")
        given.pop("expand", None)
        call = Call(self._store, Params(given), request.match_info.get("id", ""), self._root, call_id, key)
        outcome = "failed"
        try:
            told = self._once(request, call, answer, given, expand, fault)
            outcome = "replayed" if "Idempotent-Replayed" in told[2] else (fault or "counted")
        except RefusedError as refused:
            outcome = fault if fault and fault not in AFTER else str(refused)
            raise
        finally:
            if (request.method, request.path) == METER_EVENTS:
                meter_events.note_attempt(self._store, given, outcome)
        return told

    def _once(
        self, request: web.Request, call: Call, answer: Answer, given: Any, expand: list[str], fault: Fault | None
    ) -> Told:
        """A key has one answer for a day, also where that is an error that came after its call had begun."""
        if fault is not None and fault not in AFTER:
            raise errors.rate_limited() if fault == "rate_limit" else errors.server_error()
        key = call.idempotency_key
        asked = f"{request.method} {request.path} {json.dumps(given, sort_keys=True)} {expand}"
        fingerprint = sha256(asked.encode()).hexdigest()
        known = self._store.run(KNOWN, key, clocks.now(self._store) - REMEMBERED_SECONDS) if key else []
        if key and known:
            if known[0]["request"] != fingerprint:
                raise errors.other_parameters(key)
            again = {"Idempotency-Key": key, "Idempotent-Replayed": "true", "Stripe-Should-Retry": "false"}
            return known[0]["status"], json.loads(known[0]["body"]), again
        headers = {"Idempotency-Key": key} if key else {}
        with self._store.transaction():
            try:
                status, body = 200, lists.shown(self._store, answer(call), expand)
                call.params.finish()
            except RefusedError as refused:
                if not refused.keeps:
                    raise
                status, body = refused.status, refused.body()
            if fault == "error_after":
                status, body = 500, errors.server_error().body()
            if key:
                self._store.run(KEEP, key, fingerprint, status, json.dumps(body), clocks.now(self._store))
        return status, body, headers


def _check_key(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise errors.no_key()
    if not key.startswith(("sk_test_", "rk_test_")):
        raise errors.bad_key()


FORGET = "DELETE FROM answers WHERE made <= ?"
KNOWN = "SELECT request, status, body FROM answers WHERE key = ? AND made > ?"
KEEP = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)"
