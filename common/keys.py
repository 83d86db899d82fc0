"""API keys: a program's credential, with the scopes that it has and its time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, LiteralString, NamedTuple, get_args
from uuid import UUID

from sqlalchemy import Connection, text

from common import audit, credentials, ids, names, plans
from common.audit import COMMAND_LINE, Actor
from common.database import as_owner, read_all
from common.errors import AuthenticationFailed, Conflict, InvalidRequest, NotFound, PermissionDenied
from common.grouped import Grouped
from common.plans import Plan
from common.quotas import Allowance
from common.remembered_keys import VERSION, Remembered

Scope = Literal["jobs", "batches", "files", "webhooks", "usage", "keys", "billing", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# A program seldom has to do with what its account pays.
DEFAULT_SCOPES = SCOPES[:-2]
MAX_LIFE = timedelta(days=3_650)
MAX_OVERLAP = timedelta(days=7)
DEFAULT_OVERLAP = timedelta(days=1)
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from: a key or a person, by its `id`, and the account, with the limits that apply to it.
    `hard_cap` is nano-dollars in a billing period; the period is the current one. A key that was not looked up for this
    request is `remembered`: whatever is done for it has to confirm it first."""

    id: UUID
    account_id: UUID
    limits: Plan
    scopes: tuple[str, ...]
    hard_cap: int | None
    period_start: datetime
    period_end: datetime
    is_person: bool = False
    remembered: Remembered | None = field(default=None, compare=False)

    @property
    def key_id(self) -> UUID:
        """The key, which receipts name. Raises PermissionDenied for a person."""
        if self.is_person:
            raise PermissionDenied(
                "Jobs are run by an API key, which their receipts name: make one, and send this with it.",
                code="api_key_required",
            )
        return self.id

    @property
    def allowance(self) -> Allowance:
        return Allowance(self.account_id, self.period_start, self.period_end, self.limits, self.hard_cap)

    @property
    def plan(self) -> str:
        """The plan's name."""
        return self.limits.name


@dataclass(frozen=True, slots=True)
class Key:
    """What may be shown of a key. `replaces` is the key that it took over from; `last_used_at` is some seconds late."""

    id: UUID
    account_id: UUID
    name: str
    prefix: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaces: UUID | None
    status: Literal["active", "expired", "revoked"]

    @property
    def shown_id(self) -> str:
        return ids.show("key_", self.id)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `secret` is all of it, as its holder sends it: it is nowhere else."""

    key: Key
    secret: str


class _Found(NamedTuple):
    """A key as the look-up gives it."""

    id: UUID
    account_id: UUID
    plan: str
    secret_hash: bytes
    scopes: list[str]
    expired: bool
    state: str
    overrides: str
    hard_cap: int | None
    period_start: datetime
    period_end: datetime
    version: int


# Valid ones by their prefix, each as it was last looked up.
_remembered: dict[str, _Found] = {}


def remembered(key: str) -> Caller | None:
    """The caller behind a key that was valid here before, and may be no more."""
    prefix = credentials.prefix_of(key)
    row = _remembered.get(prefix) if prefix is not None else None
    if prefix is None or row is None or not credentials.matches(key, row.secret_hash):
        return None
    return _caller(row, Remembered(prefix, row.version))


def authenticate(key: str) -> Caller:
    """The caller behind a key. Raises AuthenticationFailed for an unknown, revoked or expired key, or none at all,
    and PermissionDenied for a suspended account's."""
    prefix = credentials.prefix_of(key)
    row = _looked_up.go(None, prefix) if prefix is not None else None
    matches = credentials.matches(key, row.secret_hash if row is not None else None)
    _remember(prefix or "", row)
    if row is None or not matches or row.expired:
        raise AuthenticationFailed(
            "The API key is unknown, revoked or expired: send a valid one.", code="invalid_api_key"
        )
    if row.state != "active":
        raise PermissionDenied("This account is suspended: its operator can resume it.", code="account_suspended")
    return _caller(row, None)


def _remember(prefix: str, row: _Found | None) -> None:
    if row is None or row.expired or row.state != "active":
        _remembered.pop(prefix, None)
        return
    if prefix not in _remembered and len(_remembered) >= MAX_REMEMBERED:
        _remembered.clear()
    _remembered[prefix] = row


def _caller(row: _Found, remembered: Remembered | None) -> Caller:
    return Caller(
        row.id, row.account_id, plans.with_overrides(row.plan, row.overrides), tuple(row.scopes), row.hard_cap,
        row.period_start, row.period_end, remembered=remembered,
    )  # fmt: skip


def create(
    account_id: UUID, name: str, scopes: Sequence[str] = DEFAULT_SCOPES, expires_at: datetime | None = None
) -> str:
    """As issue, by the command line and what is like it; returns the key itself."""
    return issue(COMMAND_LINE, account_id, name, scopes, expires_at).secret


def issue(
    actor: Actor, account_id: UUID, name: str, scopes: Sequence[str], expires_at: datetime | None = None
) -> NewKey:
    """A new key of the account. Raises InvalidRequest for a bad name, an unknown scope or a time that is none, and
    PermissionDenied for a scope that the actor lacks itself."""
    name = names.checked(name, "key")
    scopes = _checked_scopes(scopes)
    _check_may_give(actor, scopes)
    _check_time(expires_at)
    with actor.transaction() as connection:
        made = _insert(connection, account_id, name, scopes, expires_at, None)
        audit.record(connection, actor, "key.create", account_id, key=made.key.shown_id, name=name, scopes=list(scopes))
    return made


def _checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Each once, in their own order."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidRequest(f"Scopes are one or more of {', '.join(SCOPES)}; not {unknown}.", param="scopes")
    return tuple(scope for scope in SCOPES if scope in scopes)


def _check_may_give(actor: Actor, scopes: Sequence[str]) -> None:
    if lacking := actor.lacks(scopes):
        raise PermissionDenied(
            f"Who lacks the scope {lacking[0]!r}, as you do here, cannot make a key that has it.",
            param="scopes",
            code="scope_missing",
        )


def _check_time(expires_at: datetime | None) -> None:
    if expires_at is not None and not timedelta(0) < expires_at - datetime.now(UTC) <= MAX_LIFE:
        raise InvalidRequest(
            f"A key expires in the future and within {MAX_LIFE.days:,} days, or never.", param="expires_at"
        )


def _insert(
    connection: Connection,
    account_id: UUID,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
    replaces: UUID | None,
) -> NewKey:
    credential = credentials.new()
    parameters = {
        "id": ids.new_id(),
        "account_id": account_id,
        "name": name,
        "prefix": credential.prefix,
        "secret_hash": credential.secret_hash,
        "scopes": list(scopes),
        "expires_at": expires_at,
        "replaces": replaces,
    }
    return NewKey(Key(**connection.execute(_INSERT, parameters).one()._mapping), credential.key)


def list_page(actor: Actor, account_id: UUID, after: str | None, limit: int) -> Sequence[Key]:
    """Up to `limit` keys of the account, newest first, those made before the key `after`."""
    parameters = {"account_id": account_id, "after": ids.parse_after("key_", after), "limit": limit}
    with actor.transaction() as connection:
        return [Key(**row._mapping) for row in connection.execute(_LIST, parameters)]


def get(actor: Actor, account_id: UUID, key_id: str) -> Key:
    """The key of this account. Raises NotFound, for another account's key too."""
    with actor.transaction() as connection:
        return _get(connection, _GET, account_id, key_id)


def find(key_id: str) -> Key:
    """A key by its id alone, for the operator. Raises NotFound."""
    with as_owner() as connection:
        row = connection.execute(_FIND_ID, {"id": ids.parse("key_", key_id)}).one_or_none()
    if row is None:
        raise _not_found(key_id)
    return Key(**row._mapping)


def _get(connection: Connection, statement: Any, account_id: UUID, key_id: str) -> Key:
    row = connection.execute(statement, {"account_id": account_id, "id": ids.parse("key_", key_id)}).one_or_none()
    if row is None:
        raise _not_found(key_id)
    return Key(**row._mapping)


def _not_found(key_id: str) -> NotFound:
    return NotFound(f"There is no API key {key_id[:200]!r}.", param="key_id")


def revoke(actor: Actor, account_id: UUID, key_id: str) -> Key:
    """Ends a key: every process refuses it from the next request on. Once more changes nothing. Raises NotFound."""
    with actor.transaction() as connection:
        before = _get(connection, _LOCK, account_id, key_id)
        if before.status == "revoked":
            return before
        revoked = _get(connection, _REVOKE, account_id, key_id)
        audit.record(connection, actor, "key.revoke", account_id, key=revoked.shown_id, name=revoked.name)
    return revoked


def rotate(
    actor: Actor,
    account_id: UUID,
    key_id: str,
    overlap: timedelta = DEFAULT_OVERLAP,
    expires_at: datetime | None = None,
) -> NewKey:
    """A new key with the name and the scopes of this one, which lives on for `overlap` and no longer than it would
    have. Unless `expires_at` says otherwise the new one lives as long as the old one was given. Raises NotFound,
    Conflict for a key that is no longer active or was rotated before, and PermissionDenied for one with a scope that
    the actor lacks."""
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        seconds = int(MAX_OVERLAP.total_seconds())
        raise InvalidRequest(f"overlap_seconds is from 0 to {seconds:,}.", param="overlap_seconds")
    _check_time(expires_at)
    with actor.transaction() as connection:
        old = _get(connection, _LOCK, account_id, key_id)
        _check_may_give(actor, old.scopes)
        if old.status != "active":
            raise Conflict(f"The key is {old.status}: create a new one.", param="key_id")
        # A statement of its own: it has to see what whoever held the lock before us wrote.
        if (successor := connection.execute(_SUCCESSOR, {"account_id": account_id, "id": old.id}).scalar()) is not None:
            shown = ids.show("key_", successor)
            raise Conflict(f"The key was rotated already: {shown} took over from it.", param="key_id")
        if expires_at is None and old.expires_at is not None:
            expires_at = datetime.now(UTC) + (old.expires_at - old.created_at)
        made = _insert(connection, account_id, old.name, old.scopes, expires_at, old.id)
        connection.execute(_END, {"account_id": account_id, "id": old.id, "overlap": overlap})
        audit.record(
            connection, actor, "key.rotate", account_id,
            key=made.key.shown_id, replaces=old.shown_id, overlap_seconds=int(overlap.total_seconds()),
        )  # fmt: skip
    return made


def _look_up(_: None, prefixes: Sequence[str]) -> list[_Found | None]:
    """The key of each prefix. Under load most of what a look-up takes is the way there and back, so that requests which
    come at once go together."""
    found = {row[0]: _Found(*row[1:]) for row in read_all(_FIND, {"prefixes": list(set(prefixes))})}
    return [found.get(prefix) for prefix in prefixes]


_looked_up = Grouped(_look_up)


_COLUMNS = """
    id, account_id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at, replaces,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'active' END AS status
"""
_FIND: LiteralString = f"""
    SELECT prefix, id, account_id, plan, secret_hash, scopes, coalesce(expires_at <= now(), false) AS expired, state,
        overrides::text, hard_cap, period_start, period_end, {VERSION}
    FROM unnest(%(prefixes)s::text[]) AS sent (prefix) CROSS JOIN LATERAL find_api_key(prefix) AS found
"""
_INSERT = text(f"""
    INSERT INTO api_keys (id, account_id, name, prefix, secret_hash, scopes, expires_at, replaces)
    VALUES (:id, :account_id, :name, :prefix, :secret_hash, :scopes, :expires_at, :replaces) RETURNING {_COLUMNS}
""")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM api_keys
    WHERE account_id = :account_id AND (CAST(:after AS uuid) IS NULL OR id < CAST(:after AS uuid))
    ORDER BY id DESC LIMIT :limit
""")
_FIND_ID = text(f"SELECT {_COLUMNS} FROM api_keys WHERE id = :id")
_GET = text(f"SELECT {_COLUMNS} FROM api_keys WHERE account_id = :account_id AND id = :id")
_LOCK = text(f"SELECT {_COLUMNS} FROM api_keys WHERE account_id = :account_id AND id = :id FOR NO KEY UPDATE")
_REVOKE = text(f"""
    UPDATE api_keys SET revoked_at = now() WHERE account_id = :account_id AND id = :id RETURNING {_COLUMNS}
""")
_SUCCESSOR = text("SELECT id FROM api_keys WHERE account_id = :account_id AND replaces = :id")
# The lesser of the two, and an expiry that is null is no time at all.
_END = text("""
    UPDATE api_keys SET expires_at = least(expires_at, now() + :overlap) WHERE account_id = :account_id AND id = :id
""")
