"""Webhook endpoints: where an account is told of its events, and of which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from sqlalchemy import Connection, text

from common import audit, ids, names, queue, webhook_secrets, webhook_urls
from common.audit import Actor
from common.errors import Conflict, InvalidRequest, NotFound
from common.webhook_events import EVENT_TYPES

MAX_ENDPOINTS = 20
MAX_DESCRIPTION_CHARACTERS = 1_000
# With the hash of an account's id, the advisory lock of whoever makes an endpoint of it.
ENDPOINTS_LOCK = 7_201_007


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What may be shown of an endpoint. `previous_secret_until` is when the secret before stops signing, None where
    none signs; `failing_since` is when the first attempt failed since the last one that succeeded."""

    id: UUID
    url: str
    origin: Literal["endpoint", "submission"]
    name: str
    description: str
    event_types: Sequence[str]
    include_result: bool
    state: Literal["enabled", "disabled"]
    disabled_reason: Literal["requested", "gone", "failing"] | None
    disabled_at: datetime | None
    failing_since: datetime | None
    previous_secret_until: datetime | None
    created_at: datetime

    @property
    def shown_id(self) -> str:
        return ids.show("we_", self.id)


@dataclass(frozen=True, slots=True)
class NewSecret:
    """An endpoint with the secret that it was just given: nothing shows it again."""

    endpoint: Endpoint
    secret: str


class Changes(TypedDict, total=False):
    """What an endpoint is to be; what is left out stays as it is."""

    url: str
    name: str
    description: str
    event_types: Sequence[str]
    include_result: bool


def create(actor: Actor, account_id: UUID, wanted: Changes) -> NewSecret:
    """A new endpoint; `wanted` names at least its URL and event types. Raises InvalidRequest for a URL that webhooks
    may not go to, and Conflict where the account has as many endpoints as it may have."""
    secret = webhook_secrets.new()
    parameters = {"name": "", "description": "", "include_result": False} | _checked(wanted)
    parameters |= {"id": ids.new_id(), "account_id": account_id, "secret": webhook_secrets.seal(secret)}
    with actor.transaction() as connection:
        connection.execute(_LOCK_ACCOUNT, {"lock": ENDPOINTS_LOCK, "account_id": account_id})
        # A statement of its own: it has to see what whoever held the lock before us wrote.
        if connection.execute(_COUNT, {"account_id": account_id}).scalar_one() >= MAX_ENDPOINTS:
            raise Conflict(
                f"An account has at most {MAX_ENDPOINTS} webhook endpoints: delete one, or update one.",
                code="too_many_webhook_endpoints",
            )
        made = Endpoint(**connection.execute(_INSERT, parameters).one()._mapping)
        audit.record(connection, actor, "webhook_endpoint.create", account_id, endpoint=made.shown_id)
    return NewSecret(made, secret)


def _checked(wanted: Changes) -> dict[str, Any]:
    """The values as columns have them. Raises InvalidRequest."""
    checked: dict[str, Any] = dict(wanted)
    if "url" in wanted:
        webhook_urls.check(wanted["url"], param="url")
    if wanted.get("name"):
        checked["name"] = names.checked(wanted["name"], "webhook endpoint")
    if "event_types" in wanted:
        unknown = [name for name in wanted["event_types"] if name not in EVENT_TYPES]
        if unknown or not wanted["event_types"]:
            raise InvalidRequest(
                f"event_types are one or more of {', '.join(EVENT_TYPES)}; not {unknown}.", param="event_types"
            )
        # Each once, in their own order.
        checked["event_types"] = [name for name in EVENT_TYPES if name in wanted["event_types"]]
    return checked


def list_page(actor: Actor, account_id: UUID, after: str | None, limit: int) -> Sequence[Endpoint]:
    """Up to `limit` endpoints of the account, newest first, those made before the endpoint `after`: its own, and the
    URLs that its jobs and batches name."""
    parameters = {"account_id": account_id, "after": ids.parse_after("we_", after), "limit": limit}
    with actor.transaction() as connection:
        return [Endpoint(**row._mapping) for row in connection.execute(_LIST, parameters)]


def get(actor: Actor, account_id: UUID, endpoint_id: str) -> Endpoint:
    """The endpoint of this account. Raises NotFound, for another account's and a deleted one too."""
    with actor.transaction() as connection:
        return found(connection, account_id, endpoint_id)


def found(connection: Connection, account_id: UUID, endpoint_id: str, *, locked: bool = False) -> Endpoint:
    """As get, in a transaction, until the end of which nobody else changes it where it is `locked`."""
    parameters = {"account_id": account_id, "id": ids.parse("we_", endpoint_id)}
    row = connection.execute(_LOCK if locked else _GET, parameters).one_or_none()
    if row is None:
        raise NotFound(f"There is no webhook endpoint {endpoint_id[:200]!r}.", param="endpoint_id")
    return Endpoint(**row._mapping)


def refuse_disabled(endpoint: Endpoint) -> None:
    """Raises Conflict for an endpoint to which nothing is sent."""
    if endpoint.state == "disabled":
        raise Conflict(
            f"The endpoint is disabled ({endpoint.disabled_reason}), so that nothing is sent to it:"
            f" POST /v1/webhook_endpoints/{endpoint.shown_id}/enable first.",
            param="endpoint_id",
            code="webhook_endpoint_disabled",
        )


def update(actor: Actor, account_id: UUID, endpoint_id: str, changes: Changes) -> Endpoint:
    """Changes an endpoint for what is sent from now on; what waits for it goes to its new URL. Raises NotFound,
    InvalidRequest, and Conflict for the URL and event types of one whose jobs and batches name these themselves."""
    nothing = dict.fromkeys(("url", "name", "description", "event_types", "include_result"))
    checked = _checked(changes)
    with actor.transaction() as connection:
        before = found(connection, account_id, endpoint_id, locked=True)
        named = [field for field in ("url", "event_types") if field in changes]
        if named and before.origin == "submission":
            raise Conflict(
                f"The {named[0]} of this endpoint is what jobs and batches name when they are submitted: make an"
                " endpoint of your own for another.",
                param=named[0],
            )
        updated = _change(connection, _UPDATE, account_id, before, nothing | checked)
        audit.record(
            connection, actor, "webhook_endpoint.update", account_id, endpoint=before.shown_id, fields=list(changes)
        )
    return updated


def _change(
    connection: Connection, statement: Any, account_id: UUID, before: Endpoint, values: Mapping[str, Any]
) -> Endpoint:
    parameters = {"account_id": account_id, "id": before.id, **values}
    return Endpoint(**connection.execute(statement, parameters).one()._mapping)


def enable(actor: Actor, account_id: UUID, endpoint_id: str) -> Endpoint:
    """Events are delivered again, those that come from now on; what failed meanwhile can be replayed. Once more
    changes nothing. Raises NotFound."""
    with actor.transaction() as connection:
        before = found(connection, account_id, endpoint_id, locked=True)
        if before.state == "enabled":
            return before
        enabled = _change(connection, _ENABLE, account_id, before, {})
        audit.record(connection, actor, "webhook_endpoint.enable", account_id, endpoint=before.shown_id)
    return enabled


def disable(actor: Actor, account_id: UUID, endpoint_id: str) -> Endpoint:
    """Nothing is delivered any more. What waits fails, by a deliverer: it may be too much for a request. Once more
    changes nothing. Raises NotFound."""
    with actor.transaction() as connection:
        before = found(connection, account_id, endpoint_id, locked=True)
        if before.state == "disabled":
            return before
        disabled = _change(connection, _DISABLE, account_id, before, {"reason": "requested"})
        connection.execute(_TELL, {"account_id": account_id, "id": before.shown_id, "reason": "requested"})
        audit.record(connection, actor, "webhook_endpoint.disable", account_id, endpoint=before.shown_id)
    queue.announce_deliveries()
    return disabled


def delete(actor: Actor, account_id: UUID, endpoint_id: str) -> None:
    """As disable, and it is not shown any more. Its row stays, as its deliveries do until their time. Raises
    NotFound."""
    with actor.transaction() as connection:
        before = found(connection, account_id, endpoint_id, locked=True)
        _change(connection, _DISABLE, account_id, before, {"reason": "deleted"})
        audit.record(connection, actor, "webhook_endpoint.delete", account_id, endpoint=before.shown_id)


_COLUMNS = """
    id, url, origin, name, description, event_types, include_result, state, disabled_reason, disabled_at, failing_since,
    CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until, created_at
"""
_OWN = "account_id = :account_id AND disabled_reason IS DISTINCT FROM 'deleted'"
_LOCK_ACCOUNT = text("SELECT pg_advisory_xact_lock(:lock, hashtext(CAST(:account_id AS text)))")
_COUNT = text(f"SELECT count(*) FROM webhook_endpoints WHERE {_OWN} AND origin = 'endpoint'")
_INSERT = text(f"""
    INSERT INTO webhook_endpoints (id, account_id, url, name, description, event_types, include_result, secret)
    VALUES (:id, :account_id, :url, :name, :description, :event_types, :include_result, :secret) RETURNING {_COLUMNS}
""")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM webhook_endpoints
    WHERE {_OWN} AND (CAST(:after AS uuid) IS NULL OR id < CAST(:after AS uuid))
    ORDER BY id DESC LIMIT :limit
""")
_GET = text(f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE {_OWN} AND id = :id")
_LOCK = text(f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE {_OWN} AND id = :id FOR NO KEY UPDATE")
# How another URL fails is yet to be seen.
_UPDATE = text(f"""
    UPDATE webhook_endpoints SET url = coalesce(:url, url), name = coalesce(:name, name),
        description = coalesce(:description, description),
        event_types = coalesce(CAST(:event_types AS text[]), event_types),
        include_result = coalesce(:include_result, include_result),
        failing_since = CASE WHEN coalesce(:url, url) = url THEN failing_since END
    WHERE {_OWN} AND id = :id RETURNING {_COLUMNS}
""")
_ENABLE = text(f"""
    UPDATE webhook_endpoints SET state = 'enabled', disabled_reason = NULL, disabled_at = NULL, failing_since = NULL
    WHERE {_OWN} AND id = :id RETURNING {_COLUMNS}
""")
_DISABLE = text(f"""
    UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = :reason, disabled_at = now()
    WHERE {_OWN} AND id = :id RETURNING {_COLUMNS}
""")
_TELL = text("""
    SELECT write_event(:account_id, 'webhook_endpoint.disabled', NULL,
        jsonb_build_object('id', CAST(:id AS text), 'reason', CAST(:reason AS text)), false)
""")
