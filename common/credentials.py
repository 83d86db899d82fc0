"""How an API key is made and checked.

A key reads `by_<8 characters>_<43 characters>`. The part before the last underscore is the prefix, kept in clear for
look-up; of the rest the database holds HMAC-SHA256 under SECRET_KEY, so neither a leaked prefix nor a stolen database
opens anything.
"""

import hmac
import secrets
from typing import NamedTuple

from common.settings import settings

MAX_KEY_CHARACTERS = 100
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class Credential(NamedTuple):
    """A key as its holder has it, and what the database keeps of it."""

    key: str
    prefix: str
    secret_hash: bytes


def new() -> Credential:
    prefix = "by_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32).replace("_", "-")
    return Credential(f"{prefix}_{secret}", prefix, _keyed_hash(prefix, secret))


def prefix_of(key: str) -> str | None:
    """The part of a key that finds its row, or None for what no key looks like."""
    if len(key) > MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable():
        return None
    return key.rpartition("_")[0]


def matches(key: str, secret_hash: bytes | None) -> bool:
    """Whether the key is the one of this hash. Takes as long where there is no hash to compare with."""
    prefix, _, secret = key.rpartition("_")
    return hmac.compare_digest(_keyed_hash(prefix, secret), secret_hash or bytes(32))


def _keyed_hash(prefix: str, secret: str) -> bytes:
    # The prefix is hashed too: a hash moved to another row opens nothing.
    pepper = settings().secret_key.get_secret_value().encode()
    return hmac.digest(pepper, f"api-key:{prefix}:{secret}".encode("utf-8", "replace"), "sha256")
