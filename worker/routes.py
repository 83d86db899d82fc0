"""Routes: which provider serves a model of this process, through which lane, and which serve in its stead."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from common import queue
from common.providers import Limits, ModelSpec, catalog, chain_of
from worker.lanes import Lane, Line, Slots
from worker.provider import Provider
from worker.rates import HEARTBEAT_SECONDS, Rates
from worker.window import Window

# So many times fewer calls may begin for single jobs while those for rows of batches are as many as may be.
SINGLES_PART = 32
MAX_ROUTES = 10_000


@dataclass(frozen=True, slots=True)
class Route:
    """`model` is the name that customers know, and `upstream` the provider's."""

    model: str
    upstream: str
    provider: Provider
    lane: Lane


class Routes:
    """Of one process and event loop. `concurrency` bounds its calls in flight, but for a few more of single jobs."""

    def __init__(self, concurrency: int, process: str) -> None:
        self._concurrency = concurrency
        self._more = concurrency // SINGLES_PART + 1
        self._process = process
        self._slots = Slots(concurrency, self._more)
        self._redis = queue.connect_async()
        self._providers = {name: Provider(name, spec) for name, spec in catalog().providers.items()}
        self._lines = {name: Line(Window(self._most(name))) for name in self._providers}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._rates: list[Rates] = []
        self._routes: dict[str, Sequence[Route]] = {}
        self._heartbeat = asyncio.create_task(self._beat())

    def of(self, model: str) -> Sequence[Route]:
        """The routes of a model, the first being its own. A model that nobody serves any more goes to the default
        provider, which says so."""
        found = self._routes.get(model)
        if found is None:
            if len(self._routes) >= MAX_ROUTES:
                self._forget()
            chain = chain_of(model) or [(model, ModelSpec(name=model))]
            found = [self._route(name, spec) for name, spec in chain]
            self._routes[model] = found
        return found

    def _forget(self) -> None:
        """Models are named by customers: whoever names a million is not remembered for ever."""
        self._routes.clear()
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.waiting}
        self._rates = [rates for rates in self._rates if rates.in_use]

    def congested(self, calls: int) -> set[str]:
        """The models of which so many calls wait for their provider: claiming more of them would take the place of
        others that could go."""
        lanes = {lane for lane in self._slots.waiting if lane.congested and lane.waiting >= calls}
        if not lanes:
            return set()
        return {model for model, routes in self._routes.items() if all(route.lane in lanes for route in routes)}

    def _route(self, name: str, spec: ModelSpec) -> Route:
        upstream = spec.upstream or name
        lane = self._lanes.get((spec.provider, upstream))
        if lane is None:
            lane = self._lanes[spec.provider, upstream] = self._lane(spec, upstream)
        return Route(name, upstream, self._providers[spec.provider], lane)

    def _lane(self, spec: ModelSpec, upstream: str) -> Lane:
        provider = catalog().providers[spec.provider]
        scopes: list[tuple[str, Limits]]
        scopes = [(spec.provider, provider)] if provider is not None and _limited(provider) else []
        # The last scope is the model's: what the provider tells in its headers goes there.
        scopes.append((f"{spec.provider}/{upstream}", spec))
        learn = partial(self._make_rates, scopes)
        rates = learn() if any(_limited(limits) for _, limits in scopes) else None
        return Lane(f"{spec.provider}/{upstream}", self._slots, self._lines[spec.provider], rates, learn)

    def _make_rates(self, scopes: Sequence[tuple[str, Limits]]) -> Rates:
        rates = Rates(self._redis, self._process, scopes)
        self._rates.append(rates)
        return rates

    def _most(self, provider: str) -> int:
        spec = catalog().providers[provider]
        most = self._concurrency + self._more
        return min(most, (spec and spec.concurrency) or most)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS / 3)
            for rates in self._rates:
                rates.keep_alive()

    async def close(self) -> None:
        self._heartbeat.cancel()
        for provider in self._providers.values():
            await provider.close()
        await self._redis.aclose()


def _limited(limits: Limits) -> bool:
    return any((limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency))
