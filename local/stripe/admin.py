"""The stand-in's own addresses, under /_standin/: they need no key. Bodies and answers are JSON."""

import json
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.stripe import clocks, customers, cycles, deliveries, faults, meter_events
from local.stripe.api import Api
from local.stripe.deliveries import Sender
from local.stripe.faults import Behaviour
from local.stripe.store import Store

Model = TypeVar("Model", bound=BaseModel)


class Advance(BaseModel):
    """By so many seconds, or to a time that is not over yet."""

    model_config = ConfigDict(extra="forbid")

    seconds: int | None = Field(default=None, ge=0)
    to: int | None = Field(default=None, ge=0)


class Card(BaseModel):
    """Whether the card of a customer is declined from now on."""

    model_config = ConfigDict(extra="forbid")

    customer: str
    fails: bool


class Admin:
    def __init__(self, store: Store, sender: Sender, api: Api) -> None:
        self._store = store
        self._sender = sender
        self._api = api

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/_standin/settings", self._settings)
        app.router.add_put("/_standin/settings", self._replace)
        app.router.add_post("/_standin/settings", self._change)
        app.router.add_get("/_standin/counts", self._counts)
        app.router.add_get("/_standin/meter_events", self._meter_events)
        app.router.add_get("/_standin/deliveries", self._deliveries)
        app.router.add_post("/_standin/cards", self._card)
        app.router.add_get("/_standin/clock", self._clock)
        app.router.add_post("/_standin/advance", self._advance)

    async def _settings(self, request: web.Request) -> web.Response:
        return _json(faults.behaviour(self._store).model_dump())

    async def _replace(self, request: web.Request) -> web.Response:
        return await self._set(request, {})

    async def _change(self, request: web.Request) -> web.Response:
        return await self._set(request, faults.behaviour(self._store).model_dump())

    async def _set(self, request: web.Request, base: dict[str, Any]) -> web.Response:
        given = await _body(request)
        faults.keep(self._store, _valid(Behaviour, base | given))
        return await self._settings(request)

    async def _counts(self, request: web.Request) -> web.Response:
        return _json(self._api.counts)

    async def _meter_events(self, request: web.Request) -> web.Response:
        customer = request.query.get("customer")
        found = meter_events.by_identifier(self._store, customer)
        return _json({"identifiers": found, "totals": meter_events.totals(self._store)})

    async def _deliveries(self, request: web.Request) -> web.Response:
        return _json({"deliveries": deliveries.listed(self._store)})

    async def _card(self, request: web.Request) -> web.Response:
        card = _valid(Card, await _body(request))
        customer = self._store.find("customer", card.customer)
        if customer is None:
            raise _refused(404, f"there is no customer {card.customer!r}")
        self._store.put({**customer, customers.CARD_FAILS: card.fails})
        return _json({"customer": card.customer, "fails": card.fails})

    async def _clock(self, request: web.Request) -> web.Response:
        return _json({"now": clocks.now(self._store)})

    async def _advance(self, request: web.Request) -> web.Response:
        wanted = _valid(Advance, await _body(request))
        now = clocks.now(self._store)
        if (wanted.seconds is None) == (wanted.to is None):
            raise _refused(400, "give either `seconds` or `to`")
        to = now + wanted.seconds if wanted.seconds is not None else wanted.to
        assert to is not None
        if to < now:
            raise _refused(400, f"it is {now} already, and the clock never goes back")
        if to > clocks.LATEST:
            raise _refused(400, f"it is never later than {clocks.LATEST}")
        with self._store.transaction():
            cycles.run(self._store, None, to)
            clocks.shift(self._store, to - now)
        self._sender.wake()
        return await self._clock(request)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        given = json.loads(await request.read() or b"{}")
    # The last is a client that is gone before it has sent all: nobody reads the answer.
    except (ValueError, RecursionError, ConnectionError):
        raise _refused(400, "the body is no JSON") from None
    if not isinstance(given, dict):
        raise _refused(400, "the body is a JSON object")
    return given


def _valid(model: type[Model], given: dict[str, Any]) -> Model:
    try:
        return model.model_validate(given)
    except ValidationError as invalid:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in invalid.errors()]
        raise _refused(400, "; ".join(problems)) from None


def _refused(status: int, message: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {400: web.HTTPBadRequest, 404: web.HTTPNotFound}
    return kinds[status](text=json.dumps({"error": message}), content_type="application/json")


def _json(value: Any) -> web.Response:
    return web.json_response(value)
