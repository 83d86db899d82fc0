"""How often requests may come: by key, by account, and by address for who sends no key that is valid."""

import ipaddress
import math
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import cast
from uuid import UUID

from flask import Flask, Response, current_app, g, request
from flask_limiter import Limiter
from werkzeug.middleware.proxy_fix import ProxyFix

from common import shared_windows
from common.errors import RateLimited
from common.keys import Caller
from common.people import Person
from common.plans import Plan
from common.settings import settings
from common.shared_windows import SharedWindows
from common.windows import DAY, MINUTE, Left, Window, window

WHOSE = {
    "key": "for one API key",
    "account": "for all keys of this account together",
    "person": "for one person",
    "address": "from one address",
    "stranger": "without a valid API key from one address",
}
IPV6_NETWORK_BITS = 64
PERSON_REQUESTS_PER_MINUTE = 600
MAX_REMEMBERED = 10_000


def init_app(app: Flask) -> None:
    """Gives the app its rate limits; what authenticates a request has it counted."""
    if proxies := settings().trusted_proxies:
        # mypy forbids it for methods in general; this is how Flask wants middleware.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=0)  # type: ignore[method-assign]
    limits = RateLimits()
    limits.init_app(app)
    app.extensions["rate_limits"] = limits
    app.after_request(_tell)


def current() -> "RateLimits":
    """The rate limits of this app."""
    limits: RateLimits = current_app.extensions["rate_limits"]
    return limits


def left() -> list[Left]:
    """What the limits that this request was counted in have left."""
    found: list[Left] = g.rate_limits
    return found


class RateLimits(Limiter):
    """Flask-Limiter with windows of our own, asked once for all the limits of a request."""

    def __init__(self) -> None:
        super().__init__(
            address,
            strategy=shared_windows.STRATEGY,
            storage_uri=shared_windows.storage_url(),
            storage_options=shared_windows.storage_options(),
        )
        self._blocked: dict[str, tuple[float, Left]] = {}
        self._valid_keys: dict[int, None] = {}

    def init_app(self, app: Flask) -> None:
        """Makes the windows. An app that the limiter is part of already does not get its hooks: they would take a tenth
        of a millisecond of each request to find that no view has limits of its own."""
        app.extensions["limiter"] = {self}
        super().init_app(app)

    @property
    def windows(self) -> SharedWindows:
        return cast(SharedWindows, self.limiter)

    def refuse_blocked(self, key: str | None) -> None:
        """Raises RateLimited when too many requests without a valid key came from this address. A key that was valid a
        moment ago still passes: whoever guesses keys must not lock out the customers beside them."""
        if not self._blocked or hash(key) in self._valid_keys:
            return
        until, left = self._blocked.get(address(), (0.0, None))
        seconds = until - time.monotonic()
        if left is not None and seconds > 0:
            g.rate_limits = [left._replace(seconds=seconds)]
            raise _refusal(left.window, seconds)

    def count(self, caller: Caller, key: str) -> None:
        """Counts this request as its caller's. Raises RateLimited."""
        self._remember(key)
        own = _windows_of("person" if caller.is_person else "key", caller.id, caller.account_id, caller.limits)
        full = self._take(own + _windows_of_address(address(), settings().address_requests_per_minute))
        if full is not None:
            raise _refusal(full.window, full.seconds)

    def count_person(self, person: Person, token: str) -> None:
        """Counts this request as a person's, where it is of no account. Raises RateLimited."""
        self._remember(token)
        own = (window("person", person.user_id.hex, MINUTE, PERSON_REQUESTS_PER_MINUTE),)
        full = self._take(own + _windows_of_address(address(), settings().address_requests_per_minute))
        if full is not None:
            raise _refusal(full.window, full.seconds)

    def _remember(self, key: str) -> None:
        if len(self._valid_keys) >= MAX_REMEMBERED:
            self._valid_keys.clear()
        self._valid_keys[hash(key)] = None

    def count_refused(self, failed: bool) -> None:
        """Counts this request as its address's, and where its authentication failed as one without a valid key. Raises
        RateLimited."""
        full = self._take(
            _windows_of_address(
                address(),
                settings().address_requests_per_minute,
                settings().address_failures_per_minute if failed else None,
            )
        )
        if full is not None:
            if len(self._blocked) >= MAX_REMEMBERED:
                self._blocked.clear()
            self._blocked[address()] = (time.monotonic() + full.seconds, full)
            raise _refusal(full.window, full.seconds)

    def _take(self, windows: Sequence[Window]) -> Left | None:
        """The window that has no room for this request, or None. In one that it was counted in already it is not
        counted again."""
        counted: list[Left] = g.get("counted", [])
        before = {found.window: found for found in counted}
        room, left = self.windows.take([window for window in windows if window not in before] if before else windows)
        if room:
            g.counted = [*counted, *left]
            if before:
                # What is told is of the limits that apply now.
                left = [found for found in g.counted if found.window in windows]
        g.rate_limits = left
        return None if room else _tightest(left)


def address() -> str:
    """Where this request comes from; of an IPv6 address the network, for one client has all of it."""
    sender = request.remote_addr or "unknown"
    return _network(sender) if ":" in sender else sender


@lru_cache(maxsize=1024)
def _network(sender: str) -> str:
    try:
        found = ipaddress.IPv6Address(sender.partition("%")[0])
    except ValueError:
        return "unknown"
    return str(found.ipv4_mapped or ipaddress.IPv6Network((found, IPV6_NETWORK_BITS), strict=False))


@lru_cache(maxsize=MAX_REMEMBERED)
def _windows_of(whose: str, caller_id: UUID, account_id: UUID, limits: Plan) -> tuple[Window, ...]:
    return (
        window(whose, caller_id.hex, MINUTE, limits.key_requests_per_minute),
        window(whose, caller_id.hex, DAY, limits.key_requests_per_day),
        window("account", account_id.hex, MINUTE, limits.requests_per_minute),
        window("account", account_id.hex, DAY, limits.requests_per_day),
    )


@lru_cache(maxsize=MAX_REMEMBERED)
def _windows_of_address(sender: str, per_minute: int, failures_per_minute: int | None = None) -> tuple[Window, ...]:
    all_requests = window("address", sender, MINUTE, per_minute)
    if failures_per_minute is None:
        return (all_requests,)
    return all_requests, window("stranger", sender, MINUTE, failures_per_minute)


def _refusal(full: Window, seconds: float) -> RateLimited:
    retry_after = max(1, math.ceil(seconds))
    unit = "minute" if full.seconds == MINUTE else "day"
    return RateLimited(
        f"The limit of {full.limit:,} requests a {unit} {WHOSE[full.whose]} is reached: "
        f"send this one again in {retry_after:,} s.",
        code="rate_limited",
        retry_after=retry_after,
    )


def _tell(response: Response) -> Response:
    """Says on every answer to a counted request how many more may come: by the limit that the fewest are left of."""
    found: Sequence[Left] | None = g.get("rate_limits")
    if found:
        nearest, remaining, seconds = _tightest(found)
        reset = math.ceil(seconds)
        add = response.headers.add
        add("RateLimit-Limit", str(nearest.limit))
        add("RateLimit-Remaining", str(remaining))
        add("RateLimit-Reset", str(reset))
        add("RateLimit-Policy", ", ".join([f"{left.window.limit};w={left.window.seconds}" for left in found]))
        add("x-ratelimit-limit-requests", str(nearest.limit))
        add("x-ratelimit-remaining-requests", str(remaining))
        add("x-ratelimit-reset-requests", f"{reset}s")
    return response


def _tightest(found: Sequence[Left]) -> Left:
    """The window with the fewest requests left; of two that are full, the one that is full for longer."""
    return min(found, key=lambda left: (left.remaining, -left.seconds))
