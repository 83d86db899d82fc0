"""Deliveries: what was sent to an account's endpoints and is still to be, and sending it again.

A delivery that is made pending while its endpoint is being disabled is one that the deliverer fails, like an event that
is written at that moment: no lock is taken for either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import Connection, text

from common import ids, queue, webhook_endpoints
from common.audit import Actor
from common.errors import Conflict, InvalidRequest, NotFound

State = Literal["pending", "sending", "delivered", "failed"]
# In one request; who asks again goes on.
MAX_REPLAYED = 10_000
# The newest; a delivery that was sent again very often has more.
MAX_SHOWN_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to an endpoint. `attempts` counts those that began; `status_code` and `failure` are the last
    one's that is over."""

    id: UUID
    endpoint_id: UUID
    event_id: UUID
    event_type: str
    event_created_at: datetime
    data: dict[str, Any]
    state: State
    attempts: int
    status_code: int | None
    failure: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def shown_id(self) -> str:
        return ids.show("dlv_", self.id)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that is over; `failure` names what went wrong, None after a 2xx. `answer` is how the answer began."""

    number: int
    started_at: datetime
    milliseconds: int
    status_code: int | None
    failure: str | None
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries a list is of; None for all."""

    endpoint_id: UUID | None = None
    event_id: UUID | None = None
    event_type: str | None = None
    state: State | None = None


def list_page(actor: Actor, account_id: UUID, wanted: Wanted, after: str | None, limit: int) -> Sequence[Delivery]:
    """Up to `limit` deliveries of the account, newest first, those made before the delivery `after`."""
    filters = {
        "after": ids.parse_after("dlv_", after),
        "endpoint_id": wanted.endpoint_id,
        "event_id": wanted.event_id,
        "event_type": wanted.event_type,
    }
    # Put together of what is asked for, so that PostgreSQL plans for that with the index that serves it.
    conditions = [_FILTERS[name] for name, value in filters.items() if value is not None]
    conditions += [_OF_STATE[wanted.state]] if wanted.state is not None else []
    statement = text(_LIST.replace("/* filters */", "".join(conditions)))
    with actor.transaction() as connection:
        rows = connection.execute(statement, filters | {"account_id": account_id, "limit": limit})
        return [Delivery(**row._mapping) for row in rows]


def get(actor: Actor, account_id: UUID, delivery_id: str) -> tuple[Delivery, Sequence[Attempt]]:
    """The delivery of this account with its attempts, oldest first. Raises NotFound, for another account's too."""
    with actor.transaction() as connection:
        found = _get(connection, account_id, delivery_id)
        parameters = {"account_id": account_id, "id": found.id, "limit": MAX_SHOWN_ATTEMPTS}
        rows = connection.execute(_ATTEMPTS, parameters).all()
    return found, [Attempt(**row._mapping) for row in reversed(rows)]


def _get(connection: Connection, account_id: UUID, delivery_id: str) -> Delivery:
    parameters = {"account_id": account_id, "id": ids.parse("dlv_", delivery_id)}
    row = connection.execute(_GET, parameters).one_or_none()
    if row is None:
        raise NotFound(f"There is no webhook delivery {delivery_id[:200]!r}.", param="delivery_id")
    return Delivery(**row._mapping)


def redeliver(actor: Actor, account_id: UUID, delivery_id: str) -> Delivery:
    """Sends it again at once, also what was delivered, with all attempts of a schedule. Raises NotFound, and Conflict
    while an attempt is under way or where its endpoint is disabled or gone."""
    with actor.transaction() as connection:
        found = _get(connection, account_id, delivery_id)
        try:
            endpoint = webhook_endpoints.found(connection, account_id, ids.show("we_", found.endpoint_id))
        except NotFound:
            raise Conflict("Its endpoint was deleted: nothing can be sent there.", param="delivery_id") from None
        webhook_endpoints.refuse_disabled(endpoint)
        parameters = {"account_id": account_id, "id": found.id}
        if connection.execute(_REDELIVER, parameters).rowcount == 0:
            raise Conflict("An attempt is under way: look at how it ends first.", param="delivery_id")
        again = _get(connection, account_id, delivery_id)
    queue.announce_deliveries()
    return again


def replay(
    actor: Actor, account_id: UUID, since: datetime, until: datetime | None, endpoint_id: str | None
) -> tuple[int, bool]:
    """Sends again, oldest first, what failed from `since` on and before `until`; to one endpoint, or to all that are
    enabled. Returns how many, which is bounded, and whether there may be more: who asks again goes on with those.
    Raises InvalidRequest for an empty range, NotFound for an endpoint that is none, and Conflict for a disabled one."""
    if until is not None and until <= since:
        raise InvalidRequest("until must be after since: the range would be empty.", param="until")
    parameters = {"account_id": account_id, "since": since, "until": until, "limit": MAX_REPLAYED, "endpoint_id": None}
    with actor.transaction() as connection:
        if endpoint_id is not None:
            endpoint = webhook_endpoints.found(connection, account_id, endpoint_id)
            webhook_endpoints.refuse_disabled(endpoint)
            parameters["endpoint_id"] = endpoint.id
        replayed = connection.execute(_REPLAY, parameters).rowcount
    if replayed:
        queue.announce_deliveries()
    return replayed, replayed == MAX_REPLAYED


_COLUMNS = """
    d.id, d.endpoint_id, d.event_id, v.type AS event_type, v.created_at AS event_created_at, v.data, d.state,
    d.attempts, t.status_code, t.failure, d.next_attempt_at, d.created_at, d.ended_at
"""
# The last attempt that is over.
_LAST_ATTEMPT = """
    LEFT JOIN LATERAL (
        SELECT a.status_code, a.failure FROM attempts a
        WHERE a.account_id = :account_id AND a.delivery_id = d.id ORDER BY a.number DESC LIMIT 1
    ) t ON true
"""
_FILTERS = {
    "after": " AND d.id < :after",
    "endpoint_id": " AND d.endpoint_id = :endpoint_id",
    "event_id": " AND d.event_id = :event_id",
    "event_type": " AND v.type = :event_type",
}
# Not a parameter: an index is of one state.
_OF_STATE = {state: f" AND d.state = '{state}'" for state in get_args(State)}
_LIST = f"""
    WITH d AS MATERIALIZED (
        SELECT d.* FROM deliveries d JOIN events v ON v.id = d.event_id
        WHERE d.account_id = :account_id /* filters */
        ORDER BY d.id DESC LIMIT :limit
    )
    SELECT {_COLUMNS} FROM d JOIN events v ON v.id = d.event_id {_LAST_ATTEMPT} ORDER BY d.id DESC
"""
_GET = text(f"""
    SELECT {_COLUMNS} FROM deliveries d JOIN events v ON v.id = d.event_id {_LAST_ATTEMPT}
    WHERE d.account_id = :account_id AND d.id = :id
""")
_ATTEMPTS = text("""
    SELECT number, started_at, milliseconds, status_code, failure, answer FROM attempts
    WHERE account_id = :account_id AND delivery_id = :id ORDER BY number DESC LIMIT :limit
""")
_REDELIVER = text("""
    UPDATE deliveries SET state = 'pending', scheduled = 0, next_attempt_at = now(), ended_at = NULL
    WHERE account_id = :account_id AND id = :id AND state <> 'sending'
""")
_REPLAY = text("""
    WITH failed AS MATERIALIZED (
        SELECT d.id FROM deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
        WHERE d.account_id = :account_id AND d.state = 'failed' AND e.state = 'enabled'
            AND d.ended_at >= :since AND (CAST(:until AS timestamptz) IS NULL OR d.ended_at < :until)
            AND (CAST(:endpoint_id AS uuid) IS NULL OR d.endpoint_id = :endpoint_id)
        ORDER BY d.ended_at, d.id LIMIT :limit
        FOR UPDATE OF d SKIP LOCKED
    )
    UPDATE deliveries d SET state = 'pending', scheduled = 0, next_attempt_at = now(), ended_at = NULL
    FROM failed WHERE d.id = failed.id
""")
