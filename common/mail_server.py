"""The operator's mail server and the sender of all mails, as the settings SMTP_URL and MAIL_FROM name them."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from common import mail_addresses

PLAIN_PORT = 25
# With starttls=1: message submission (RFC 6409).
SUBMISSION_PORT = 587
TLS_PORT = 465

_FROM = re.compile(r"(?P<name>[^<>\"]*) <(?P<address>[^<>]+)>")


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails go. `tls`: from the first byte; `starttls`: before anything is said, or not at all."""

    host: str
    port: int
    tls: bool
    starttls: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def read_url(url: str) -> MailServer:
    """The server that a URL such as `smtp://user:password@host:587?starttls=1` or `smtps://host` names. Raises
    ValueError, which shows nothing of it."""
    if not url.startswith(("smtp://", "smtps://")):
        raise ValueError("must start with smtp:// or smtps://")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("must be a URL; its host or port cannot be read") from None
    tls, starttls = parts.scheme == "smtps", parts.query == "starttls=1"
    if not host or parts.path not in ("", "/") or parts.fragment or not host.isprintable() or " " in host:
        raise ValueError("must be smtp://user:password@host:port; characters such as / and # are written %2F and %23")
    if parts.query and (tls or not starttls):
        raise ValueError("takes ?starttls=1 behind smtp:// and nothing else")
    if parts.username and not (tls or starttls or _is_loopback(host)):
        raise ValueError("has a password, which would be sent in clear: use smtps:// or ?starttls=1")
    return MailServer(
        host,
        port or (TLS_PORT if tls else SUBMISSION_PORT if starttls else PLAIN_PORT),
        tls,
        starttls,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password or "") if parts.username else None,
    )


def read_sender(text: str) -> tuple[str, str]:
    """The name and the address of `Name <address>` or of an address alone. Raises ValueError."""
    found = _FROM.fullmatch(text)
    name, address = (found["name"].strip(), found["address"]) if found is not None else ("", text)
    if not name.isprintable() or not mail_addresses.is_address(address):
        raise ValueError("must be an address such as no-reply@example.com, or Name <no-reply@example.com>")
    return name, address


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
