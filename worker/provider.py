"""The door to the provider: a job's own JSON goes out as it was submitted, and what comes back is handed on as bytes.

The openai SDK says where calls go and with which headers: address, key, organization, project. The bytes themselves go
over aiohttp, which the SDK would use as well. Its own way there builds a request, a response and their headers in
three layers, at about 1.3 ms of CPU a call against 0.4 ms without; at a thousand calls in flight that is the
difference between 600 calls a second and 1,400.
"""

from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import aiohttp
import openai
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from common.endpoints import PROMPT_FIELDS
from common.providers import ProviderSpec
from common.settings import settings
from worker.answers import storable

CONNECT_SECONDS = 5.0
LIST_TIMEOUT_SECONDS = 20.0
# Below the minute after which many servers and load balancers close an idle connection.
KEEPALIVE_SECONDS = 30
MAX_HEADER_BYTES = 64 * 1024


class ProviderTimeout(Exception):
    """The answer was not there, whole, in time."""


class ProviderUnreachable(Exception):
    """No connection, or one that ended before the answer did. The message is the reason."""


@dataclass(frozen=True, slots=True)
class Response:
    """What the provider said, whatever its status."""

    status_code: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def request_id(self) -> str | None:
        found = self.headers.get("x-request-id")
        return found if found is None else storable(found)


class Provider:
    """One provider, called from one event loop; how many calls are in flight is the caller's business. None is the
    provider of the settings."""

    def __init__(self, name: str, spec: ProviderSpec | None) -> None:
        with client(spec) as sdk:
            base = URL(str(sdk.base_url))
            headers = sdk.auth_headers | sdk.default_headers
        self.name = name if spec is not None else base.host or name
        self._urls = {endpoint: base / endpoint.removeprefix("/v1/") for endpoint in PROMPT_FIELDS}
        # Some values are the SDK's marks for "leave this header out".
        self._headers = CIMultiDict({name: value for name, value in headers.items() if isinstance(value, str)})
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=settings().call_timeout_seconds, sock_connect=CONNECT_SECONDS),
            proxy=_proxy(base),
            max_field_size=MAX_HEADER_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()

    async def post(self, endpoint: str, body: bytes) -> Response:
        """The answer to one call. Raises ProviderTimeout and ProviderUnreachable."""
        try:
            async with self._session.post(self._urls[endpoint], data=body, headers=self._headers) as response:
                return Response(response.status, response.headers, await response.read())
        except aiohttp.ConnectionTimeoutError:
            raise ProviderUnreachable(f"no connection within {CONNECT_SECONDS:g} s") from None
        except TimeoutError:
            raise ProviderTimeout from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderUnreachable(_reason(error)) from error


def client(spec: ProviderSpec | None) -> openai.OpenAI:
    """The SDK's own client, for what is not a customer's call; None is the provider of the settings. Raises
    LookupError where a provider's key is not in the environment."""
    key = settings().provider_api_key if spec is None else spec.api_key
    sdk = openai.OpenAI(
        base_url=settings().provider_url if spec is None else spec.url,
        api_key=key.get_secret_value(),
        max_retries=0,
        timeout=LIST_TIMEOUT_SECONDS,
    )
    if spec is not None:
        # Those of the environment are the default provider's.
        sdk.organization = sdk.project = None
    return sdk


def _proxy(url: URL) -> str | None:
    """The proxy that the environment names for this address, if any, as other clients read it. Looked up once: asking
    the environment costs as much as a part of the call."""
    return None if proxy_bypass(url.authority) else getproxies().get(url.scheme)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the provider's name has no address"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    return storable(str(error)) or type(error).__name__
