"""Tokens that say nothing: random, held by a person's browser or program, and kept here as keyed hashes alone."""

import hmac
import secrets
from typing import Literal

from common.settings import settings

Kind = Literal["page", "refresh"]
MAX_CHARACTERS = 100


def new() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def hash_of(kind: Kind, token: str) -> bytes:
    """What is kept of it, under SECRET_KEY: neither a stolen database nor a token of another kind opens anything."""
    pepper = settings().secret_key.get_secret_value().encode()
    return hmac.digest(pepper, f"{kind}:{token[: MAX_CHARACTERS + 1]}".encode("utf-8", "replace"), "sha256")
