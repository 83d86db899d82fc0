"""API keys: a program's credential.

A key reads `by_<8 characters>_<43 characters>`. The part before the last underscore is the prefix, kept in clear for
look-up; of the rest the database holds HMAC-SHA256 under SECRET_KEY, so neither a leaked prefix nor a stolen database
opens anything.
"""

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from sqlalchemy import text

from common import ids, plans
from common.database import owner_engine, read_one
from common.errors import AuthenticationFailed, InvalidRequest, NotFound, PermissionDenied
from common.plans import Plan
from common.quotas import Allowance
from common.settings import settings

SCOPES = ("jobs", "batches", "files", "webhooks", "usage", "keys", "admin")
DEFAULT_SCOPES = SCOPES[:-1]
MAX_KEY_CHARACTERS = 100
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from: the key and its account, with the limits that apply to it. `hard_cap` is nano-dollars
    in a billing period; the period is the current one."""

    key_id: UUID
    account_id: UUID
    limits: Plan
    scopes: tuple[str, ...]
    hard_cap: int | None
    period_start: datetime
    period_end: datetime

    @property
    def allowance(self) -> Allowance:
        return Allowance(self.account_id, self.period_start, self.period_end, self.limits, self.hard_cap)

    @property
    def plan(self) -> str:
        """The plan's name."""
        return self.limits.name


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What may be shown of a key after its creation."""

    id: UUID
    account_id: UUID
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def shown_id(self) -> str:
        return ids.show("key_", self.id)


def create(
    account_id: UUID, name: str, scopes: tuple[str, ...] = DEFAULT_SCOPES, expires_at: datetime | None = None
) -> str:
    """A new key, returned this once. Raises InvalidRequest for an unknown scope."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidRequest(f"Scopes are one or more of {', '.join(SCOPES)}; not {unknown}.", param="scopes")
    prefix = "by_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32).replace("_", "-")
    row = {
        "id": ids.new_id(),
        "account_id": account_id,
        "name": name,
        "prefix": prefix,
        "secret_hash": _keyed_hash(prefix, secret),
        "scopes": list(scopes),
        "expires_at": expires_at,
    }
    with owner_engine().begin() as connection:
        connection.execute(_INSERT, row)
    return f"{prefix}_{secret}"


class _Found(NamedTuple):
    """A key as the look-up gives it."""

    id: UUID
    account_id: UUID
    plan: str
    secret_hash: bytes
    scopes: list[str]
    expires_at: datetime | None
    state: str
    overrides: dict[str, Any]
    hard_cap: int | None
    period_start: datetime
    period_end: datetime


def authenticate(key: str) -> Caller:
    """The caller behind a key. Raises AuthenticationFailed for an unknown, revoked or expired key, or none at all,
    and PermissionDenied for a suspended account's."""
    prefix, _, secret = key.rpartition("_")
    found = None
    if len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable():
        found = read_one(_FIND, {"prefix": prefix})
    row = _Found(*found) if found is not None else None
    expected = row.secret_hash if row is not None else bytes(32)
    matches = hmac.compare_digest(_keyed_hash(prefix, secret), expected)
    if row is None or not matches or (row.expires_at is not None and row.expires_at <= datetime.now(UTC)):
        raise AuthenticationFailed(
            "The API key is unknown, revoked or expired: send a valid one.", code="invalid_api_key"
        )
    if row.state != "active":
        raise PermissionDenied("This account is suspended: its operator can resume it.", code="account_suspended")
    limits = plans.with_overrides(row.plan, row.overrides)
    return Caller(row.id, row.account_id, limits, tuple(row.scopes), row.hard_cap, row.period_start, row.period_end)


def list_of(account_id: UUID) -> list[KeyRecord]:
    with owner_engine().begin() as connection:
        rows = connection.execute(_LIST, {"account_id": account_id})
        return [KeyRecord(**{**row._mapping, "scopes": tuple(row.scopes)}) for row in rows]


def revoke(key_id: UUID | None) -> None:
    """Ends a key: every process refuses it from the next request on. Raises NotFound."""
    with owner_engine().begin() as connection:
        if connection.execute(_REVOKE, {"id": key_id}).rowcount == 0:
            raise NotFound("There is no such API key.", param="key")


def _keyed_hash(prefix: str, secret: str) -> bytes:
    # The prefix is hashed too: a hash moved to another row opens nothing.
    pepper = settings().secret_key.get_secret_value().encode()
    return hmac.digest(pepper, f"api-key:{prefix}:{secret}".encode("utf-8", "replace"), "sha256")


_INSERT = text(
    "INSERT INTO api_keys (id, account_id, name, prefix, secret_hash, scopes, expires_at)"
    " VALUES (:id, :account_id, :name, :prefix, :secret_hash, :scopes, :expires_at)"
)
_FIND: LiteralString = """
    SELECT id, account_id, plan, secret_hash, scopes, expires_at, state, overrides, hard_cap, period_start, period_end
    FROM find_api_key(%(prefix)s)
"""
_LIST = text(
    "SELECT id, account_id, name, prefix, scopes, created_at, expires_at, revoked_at"
    " FROM api_keys WHERE account_id = :account_id ORDER BY id"
)
_REVOKE = text("UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = :id")
