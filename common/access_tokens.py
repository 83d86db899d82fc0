"""Access tokens: what a person's program sends with each request, for a quarter of an hour.

One names a session and the account that was chosen in it, and is good as long as both are so: it is looked up each
time. So a log-out ends it at once, and one of another account does nothing in this one.
"""

from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from itsdangerous import BadData, URLSafeTimedSerializer

from common.settings import settings

LIFE_SECONDS = 900
MAX_CHARACTERS = 500
PREFIX = "at_"


class Named(NamedTuple):
    """What an access token names."""

    session_id: UUID
    account_id: UUID | None


def issue(session_id: UUID, account_id: UUID | None) -> str:
    """A new one, from now on."""
    return PREFIX + str(_serializer().dumps([session_id.hex, account_id.hex if account_id is not None else None]))


def is_one(credential: str) -> bool:
    """Whether it looks like an access token, which no API key does."""
    return credential.startswith(PREFIX)


def read(token: str) -> Named | None:
    """What it names; None for one that is forged or over."""
    if not token.isascii() or len(token) > MAX_CHARACTERS:
        return None
    try:
        session_id, account_id = _serializer().loads(token.removeprefix(PREFIX), max_age=LIFE_SECONDS)
    except BadData:
        return None
    return Named(UUID(hex=session_id), UUID(hex=account_id) if account_id is not None else None)


@lru_cache(maxsize=1)
def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        settings().secret_key.get_secret_value(),
        salt="access",
        signer_kwargs={"key_derivation": "hmac", "digest_method": sha256},
    )
