"""Where webhooks may go: https to public hosts on a few ports, and anywhere on the hosts that the operator lists.

What an address is read with here is what it is called with, so that both see the same host and port. Names are not
looked up: what they lead to may change, and is looked at with each connection.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from yarl import URL

from common.addresses import is_public
from common.errors import InvalidRequest
from common.settings import settings

MAX_URL_CHARACTERS = 2_000
_AUTHORITY = re.compile("[/?#]")
_PRINTED = re.compile(r"[!-\[\]-~]+")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
# The last part of a name is never a number; as one, some would read 127.1 and 0x7f000001 as addresses.
_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?")


class Refused(Exception):
    """A webhook may not go there. `failure` is the name of that in the log of attempts, `cure` what to do."""

    def __init__(self, failure: str, cure: str) -> None:
        super().__init__(cure)
        self.failure = failure
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook goes. A `trusted` one is the operator's own, wherever its name leads."""

    url: URL
    trusted: bool


def check(url: str, param: str = "url") -> None:
    """Raises InvalidRequest, naming the cure, for a URL that no webhook may go to."""
    try:
        target(url)
    except Refused as refused:
        raise InvalidRequest(refused.cure, param=param, code=refused.failure) from None


def target(url: str) -> Target:
    """Raises Refused."""
    read = _read(url)
    trusted = _is_trusted(read)
    if read.scheme != "https" and not (trusted and read.scheme == "http"):
        raise Refused("refused_scheme", "A webhook's URL begins with https://.")
    if not trusted:
        if read.port not in _ports():
            allowed = " or ".join(map(str, sorted(_ports())))
            raise Refused("refused_port", f"A webhook's URL has the port {allowed}, not {read.port}.")
        _check_host(read.raw_host or "")
    return Target(read, trusted)


def _read(url: str) -> URL:
    if not 0 < len(url) <= MAX_URL_CHARACTERS:
        raise Refused("refused_url", f"A webhook's URL has 1 to {MAX_URL_CHARACTERS:,} characters.")
    if not _PRINTED.fullmatch(url):
        raise Refused(
            "refused_url",
            "A webhook's URL is of ASCII characters without spaces or \\: write others as %xx, and names as xn--.",
        )
    try:
        read = URL(url)
        # Reading the port raises as well.
        absolute = bool(read.raw_host) and read.port is not None
    except ValueError:
        absolute = False
    if not absolute:
        raise Refused("refused_url", "A webhook's URL is absolute, such as https://example.com/webhooks.")
    # Of an empty user yarl keeps nothing.
    if "@" in _AUTHORITY.split(url.partition("//")[2], 1)[0]:
        raise Refused("refused_url", "A webhook's URL has no user or password: the signature says who sent it.")
    if "#" in url:
        raise Refused("refused_url", "A webhook's URL has no #: what is behind it would not be sent.")
    return read


def _check_host(host: str) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is not None:
        if not is_public(host):
            raise Refused("refused_private_address", f"A webhook goes to a public address, which {host} is not.")
    elif _NUMBER.fullmatch(host):
        raise Refused("refused_private_address", "A webhook's host is a name, or an address of four decimal numbers.")
    elif not _NAME.fullmatch(host) or "." not in host.rstrip("."):
        raise Refused("refused_url", f"A webhook's host is a name of the public internet, which {host!r} is not.")


def _is_trusted(url: URL) -> bool:
    host = (url.raw_host or "").rstrip(".")
    return not {(host, None), (host, url.port)}.isdisjoint(_trusted())


@lru_cache(maxsize=1)
def _trusted() -> frozenset[tuple[str, int | None]]:
    """The operator's hosts, each with its port, or None for all."""
    read = [URL(f"http://{entry.strip()}") for entry in (settings().webhook_allowed_hosts or "").split(",") if entry]
    return frozenset((url.raw_host or "", url.explicit_port) for url in read)


@lru_cache(maxsize=1)
def _ports() -> frozenset[int]:
    return frozenset(int(port) for port in settings().webhook_ports.split(","))
