"""The tokens of links in mails: each says, signed, what it is for and whom it is about, and is used once.

A token of one purpose is none of another: each has its own salt. What it is about is compared when it is used, so that
it dies with a change of the password or of the address.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

from itsdangerous import BadData, URLSafeTimedSerializer
from sqlalchemy import Connection, text

from common import ids
from common.errors import InvalidRequest
from common.settings import settings

Purpose = Literal["verify-email", "reset-password", "change-email", "invitation"]
LIFE: Mapping[Purpose, timedelta] = {
    "verify-email": timedelta(hours=24),
    "reset-password": timedelta(hours=1),
    "change-email": timedelta(hours=1),
    "invitation": timedelta(days=7),
}
MAX_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class About:
    """What a token is about: the address, the user where there is one, with the version of their credentials, and the
    account where it is of one."""

    email: str
    user_id: UUID | None = None
    version: int = 0
    account_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read. `id` is its row's."""

    id: UUID
    about: About


def issue(connection: Connection, purpose: Purpose, about: About, token_id: UUID | None = None) -> str:
    """A new token, good once the transaction is committed, and for the LIFE of its purpose."""
    token_id = token_id or ids.new_id()
    connection.execute(_INSERT, {"id": token_id, "account_id": about.account_id, "life": LIFE[purpose]})
    said = [token_id.hex, about.email, _shown(about.user_id), about.version, _shown(about.account_id)]
    return str(_serializer(purpose).dumps(said))


def read(purpose: Purpose, token: str) -> Token:
    """What a token says, whether or not it was used. Raises InvalidRequest for one that is forged, over, or of another
    purpose."""
    if not token.isascii() or len(token) > MAX_CHARACTERS:
        raise refusal()
    try:
        said = _serializer(purpose).loads(token, max_age=int(LIFE[purpose].total_seconds()))
    except BadData:
        raise refusal() from None
    token_id, email, user_id, version, account_id = said
    return Token(UUID(hex=token_id), About(email, _parsed(user_id), version, _parsed(account_id)))


def use(connection: Connection, purpose: Purpose, token: str) -> Token:
    """As read, and from the commit on it is used, by the transaction of what it is used for: both stay, or neither.
    Raises InvalidRequest for one that was used, too."""
    found = read(purpose, token)
    if connection.execute(_USE, {"id": found.id}).rowcount != 1:
        raise refusal()
    return found


def refusal() -> InvalidRequest:
    """The same for whatever is wrong with a token."""
    return InvalidRequest(
        "This link is no longer good: it was used, it is too old, or what it was for has changed. Ask for a new one.",
        param="token",
        code="invalid_token",
    )


def _shown(found: UUID | None) -> str | None:
    return found.hex if found is not None else None


def _parsed(shown: Any) -> UUID | None:
    return UUID(hex=shown) if shown is not None else None


@lru_cache(maxsize=8)
def _serializer(purpose: Purpose) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        settings().secret_key.get_secret_value(),
        salt=f"mailed:{purpose}",
        signer_kwargs={"key_derivation": "hmac", "digest_method": sha256},
    )


_INSERT = text(
    "INSERT INTO mailed_tokens (id, account_id, expires_at) VALUES (:id, :account_id, now() + CAST(:life AS interval))"
)
_USE = text("UPDATE mailed_tokens SET used_at = now() WHERE id = :id AND used_at IS NULL AND expires_at > now()")
