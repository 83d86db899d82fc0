"""One attempt at a delivery: a signed POST over a connection of its own, and what came of it, by name.

A customer chooses where it goes. So nothing is connected to but what is public or the operator's own, no redirect is
followed, no proxy of the environment is asked, and a receiver has ten seconds and 64 kB.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from common import ids, webhook_secrets, webhook_urls
from common.addresses import is_public
from worker.delivery_claims import ClaimedDelivery
from worker.retry_after import retry_after

log = logging.getLogger(__name__)

ATTEMPT_SECONDS = 10.0
MAX_READ_BYTES = 64 * 1024
KEPT_BYTES = 1024
USER_AGENT = "Batchyard-Webhooks"

Lookup = Callable[[str, int], Sequence[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it. `failure` is None after a 2xx; `answer` is the beginning of what was answered, and
    `asked_seconds` what the receiver asked to wait. `began` is of the monotonic clock."""

    delivery: ClaimedDelivery
    began: float
    seconds: float
    failure: str | None
    status_code: int | None = None
    answer: bytes | None = None
    asked_seconds: float | None = None


class RefusedAddress(OSError):
    """An address that is not public."""


class Sender:
    """Sends from one event loop, which it must be made in; at most `concurrency` names are looked up at once."""

    def __init__(self, concurrency: int, lookup: Lookup | None = None) -> None:
        # A thread for each: a name whose servers do not answer must not hold up the others.
        self._threads = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="lookup")
        tls = ssl.create_default_context()
        look = lookup or _look_up
        self._public = _session(tls, _Resolver(self._threads, look, public=True), _public_socket)
        self._trusted = _session(tls, _Resolver(self._threads, look, public=False), None)

    async def close(self) -> None:
        await self._public.close()
        await self._trusted.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, delivery: ClaimedDelivery) -> Attempt:
        """Never raises but for a cancellation."""
        answer = _Answer()
        began = time.monotonic()
        failure = await self._failure(delivery, answer)
        return Attempt(
            delivery,
            began,
            time.monotonic() - began,
            failure,
            answer.status_code,
            bytes(answer.body) if answer.status_code is not None else None,
            answer.asked_seconds,
        )

    async def _failure(self, delivery: ClaimedDelivery, answer: "_Answer") -> str | None:
        if not delivery.secrets:
            return "secret_unreadable"
        try:
            # The settings may have changed since the URL was taken.
            target = webhook_urls.target(delivery.url)
            session = self._trusted if target.trusted else self._public
            async with asyncio.timeout(ATTEMPT_SECONDS):
                async with session.post(
                    target.url, data=delivery.body, headers=_headers(delivery), allow_redirects=False
                ) as response:
                    await answer.read(response)
                    return _judge(response.status)
        except webhook_urls.Refused as refused:
            return refused.failure
        except TimeoutError:
            return "timed_out"
        except (aiohttp.ClientError, OSError) as error:
            return _name(error)
        # Whatever it is: an attempt that is never recorded would be taken for one whose process died.
        except Exception:
            log.exception("a delivery could not be attempted")
            return "connection_failed"


class _Answer:
    """What a receiver answers, as far as it is read."""

    def __init__(self) -> None:
        # None until there is one.
        self.status_code: int | None = None
        self.asked_seconds: float | None = None
        self.body = bytearray()

    async def read(self, response: aiohttp.ClientResponse) -> None:
        self.status_code = response.status
        if response.status in (429, 503):
            self.asked_seconds = retry_after(response.headers)
        read = 0
        # What is behind stays unread: the connection is closed.
        while read < MAX_READ_BYTES and (piece := await response.content.read(MAX_READ_BYTES - read)):
            read += len(piece)
            self.body += piece[: max(0, KEPT_BYTES - len(self.body))]


def _headers(delivery: ClaimedDelivery) -> dict[str, str]:
    """Those of Standard Webhooks, and no more than needed beside."""
    webhook_id = ids.show("evt_", delivery.event_id)
    timestamp = int(time.time())
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        # What is logged is then what can be read.
        "Accept-Encoding": "identity",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": webhook_secrets.signatures(delivery.secrets, webhook_id, timestamp, delivery.body),
    }


def _judge(status_code: int) -> str | None:
    if 200 <= status_code < 300:
        return None
    if 300 <= status_code < 400:
        return "redirected"
    return "gone" if status_code == 410 else "bad_status"


def _name(error: aiohttp.ClientError | OSError) -> str:
    """The failure by its name in the log of attempts."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, RefusedAddress):
        return "refused_private_address"
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "dns_failed"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "tls_failed"
        case aiohttp.ClientConnectorError():
            return "connection_failed"
        case aiohttp.ClientResponseError():
            return "not_http"
        case aiohttp.InvalidURL():
            return "refused_url"
        case _:
            return "connection_lost"


def _session(
    tls: ssl.SSLContext, resolver: AbstractResolver, make_socket: Callable[[aiohttp.AddrInfoType], socket.socket] | None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,
            # What a name leads to is looked at with each attempt.
            force_close=True,
            use_dns_cache=False,
            resolver=resolver,
            socket_factory=make_socket,
            ssl=tls,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        # The whole attempt has its time.
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        auto_decompress=False,
        read_bufsize=MAX_READ_BYTES // 4,
    )


def _public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """The last word, at whatever comes to be connected to, also where a URL names an address."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise RefusedAddress("the address is not public")
    return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Gives the addresses that are then connected to: nobody looks the name up again. A `public` one refuses a name
    of which any address is not public, since which of them is taken is chance."""

    def __init__(self, threads: ThreadPoolExecutor, lookup: Lookup, public: bool) -> None:
        self._threads = threads
        self._lookup = lookup
        self._public = public

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        # Not the loop's own: it has four threads for all.
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host, port)
        if not found:
            raise OSError("the name has no address")
        if self._public and not all(is_public(address) for _, address in found):
            raise RefusedAddress("an address of the name is not public")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for family, address in found
        ]

    async def close(self) -> None:
        return


def _look_up(host: str, port: int) -> list[tuple[int, str]]:
    """The addresses of a name, each with its family. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError as error:
        # Raised for labels that are too long or empty, before anybody is asked.
        raise OSError(str(error)) from error
    return [(family, str(address[0])) for family, _, _, _, address in found]
