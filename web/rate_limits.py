"""How often requests may come: by key, by account, and by address for who sends no key that is valid."""

import ipaddress
import math
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

from flask import Flask, Response, current_app, g, request
from flask_limiter import Limiter
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from werkzeug.middleware.proxy_fix import ProxyFix

from common.errors import RateLimited
from common.keys import Caller
from common.settings import settings
from web import shared_windows
from web.shared_windows import SharedWindows
from web.windows import Left, Window

MINUTE = 60
DAY = 86_400
WHOSE = {
    "key": "for one API key",
    "account": "for all keys of this account together",
    "address": "from one address",
    "stranger": "without a valid API key from one address",
}
IPV6_NETWORK_BITS = 64
REDIS_SECONDS = 0.5
MAX_REMEMBERED = 10_000


def init_app(app: Flask) -> None:
    """Makes the app count its requests, after what authenticates them and before what comes then."""
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


class RateLimits(Limiter):
    """Flask-Limiter with one question to Redis for a request and not one for each of its limits, and none for most."""

    def __init__(self) -> None:
        # What is killed refuses at once; what only stands still must not hold up a request for longer than this.
        once_more_where_closed = Retry(NoBackoff(), 1, (RedisConnectionError,))
        super().__init__(
            address,
            strategy=shared_windows.STRATEGY,
            storage_uri=settings().redis_url.replace("unix://", "redis+unix://", 1),
            storage_options={
                "socket_timeout": REDIS_SECONDS,  # type: ignore[dict-item]
                "socket_connect_timeout": REDIS_SECONDS,  # type: ignore[dict-item]
                "retry": once_more_where_closed,  # type: ignore[dict-item]
            },
        )
        self._blocked: dict[str, tuple[float, Left]] = {}
        self._valid_keys: dict[int, None] = {}

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
        """Has this request counted as its caller's."""
        if len(self._valid_keys) >= MAX_REMEMBERED:
            self._valid_keys.clear()
        self._valid_keys[hash(key)] = None
        g.windows = [*_windows_of(caller), _window_of_address()]

    def count_refused(self, failed: bool) -> None:
        """Has this request counted as its address's, and as one without a valid key where its authentication failed."""
        g.windows = [_window_of_address()]
        if failed:
            limit = settings().address_failures_per_minute
            g.windows.append(Window(f"60:stranger:{address()}", "stranger", MINUTE, limit))

    # Flask-Limiter has this called before each request.
    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        if "windows" not in g:
            return
        room, g.rate_limits = self.windows.take(g.windows)
        if not room:
            full = _tightest(g.rate_limits)
            if "caller" not in g:
                self._block(full)
            raise _refusal(full.window, full.seconds)

    def _block(self, full: Left) -> None:
        if len(self._blocked) >= MAX_REMEMBERED:
            self._blocked.clear()
        self._blocked[address()] = (time.monotonic() + full.seconds, full)


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


def _windows_of(caller: Caller) -> list[Window]:
    key, account, limits = caller.key_id.hex, caller.account_id.hex, caller.limits
    return [
        Window(f"60:key:{key}", "key", MINUTE, limits.key_requests_per_minute),
        Window(f"86400:key:{key}", "key", DAY, limits.key_requests_per_day),
        Window(f"60:account:{account}", "account", MINUTE, limits.requests_per_minute),
        Window(f"86400:account:{account}", "account", DAY, limits.requests_per_day),
    ]


def _window_of_address() -> Window:
    return Window(f"60:address:{address()}", "address", MINUTE, settings().address_requests_per_minute)


def _refusal(window: Window, seconds: float) -> RateLimited:
    retry_after = max(1, math.ceil(seconds))
    unit = "minute" if window.seconds == MINUTE else "day"
    return RateLimited(
        f"The limit of {window.limit:,} requests a {unit} {WHOSE[window.whose]} is reached: "
        f"send this one again in {retry_after:,} s.",
        code="rate_limited",
        retry_after=retry_after,
    )


def _tell(response: Response) -> Response:
    """Says on every answer to a counted request how many more may come: by the limit that the fewest are left of."""
    found: Sequence[Left] | None = g.get("rate_limits")
    if found:
        window, remaining, seconds = _tightest(found)
        reset = math.ceil(seconds)
        headers = response.headers
        headers["RateLimit-Limit"] = headers["x-ratelimit-limit-requests"] = str(window.limit)
        headers["RateLimit-Remaining"] = headers["x-ratelimit-remaining-requests"] = str(remaining)
        headers["RateLimit-Reset"] = str(reset)
        headers["x-ratelimit-reset-requests"] = f"{reset}s"
        headers["RateLimit-Policy"] = ", ".join([f"{left.window.limit};w={left.window.seconds}" for left in found])
    return response


def _tightest(found: Sequence[Left]) -> Left:
    """The window with the fewest requests left; of two that are full, the one that is full for longer."""
    return min(found, key=lambda left: (left.remaining, -left.seconds))
