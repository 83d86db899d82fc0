"""Sample events: what an endpoint would be sent of each type, of things that there are not."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from common import ids, json_text, queue, webhook_endpoints
from common.audit import Actor
from common.webhook_endpoints import Endpoint
from common.webhook_events import BATCH_TYPES, JOB_TYPES, EventType

NOTHING = UUID(int=0)


def send(actor: Actor, account_id: UUID, endpoint_id: str, event_type: EventType | None) -> str:
    """Sends an endpoint, and no other, a sample of an event: of this type, or of the first that the endpoint is told
    of. Returns the id of its delivery. Raises NotFound, and Conflict for a disabled endpoint."""
    with actor.transaction() as connection:
        endpoint = webhook_endpoints.found(connection, account_id, endpoint_id, locked=True)
        webhook_endpoints.refuse_disabled(endpoint)
        # A URL that jobs and batches name has no types of its own.
        wanted: str = event_type or [*endpoint.event_types, "job.completed"][0]
        delivery_id = ids.new_id()
        parameters = {
            "account_id": account_id,
            "event_id": ids.new_id(),
            "type": wanted,
            "data": json_text.dumps(data(wanted, account_id, endpoint)).decode(),
            "id": delivery_id,
            "endpoint_id": endpoint.id,
        }
        connection.execute(_INSERT_EVENT, parameters)
        connection.execute(_INSERT_DELIVERY, parameters)
    queue.announce_deliveries()
    return ids.show("dlv_", delivery_id)


def data(event_type: str, account_id: UUID, endpoint: Endpoint) -> dict[str, Any]:
    """The event's data, which says that it is a sample."""
    if event_type in JOB_TYPES:
        found: dict[str, Any] = {"id": ids.show("job_", NOTHING)}
    elif event_type in BATCH_TYPES:
        found = {"id": ids.show("batch_", NOTHING)}
    elif event_type == "usage.threshold_reached":
        month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0)
        found = {"id": ids.show("acct_", account_id), "limit": "tokens_per_month", "percent": 80, "used": 8_000}
        found |= {"limit_value": 10_000, "period_start": int(month.timestamp())}
    else:
        found = {"id": endpoint.shown_id, "reason": "failing"}
    if event_type == "batch.progress":
        found["request_counts"] = {"total": 10, "completed": 5, "failed": 0}
    return found | {"sample": True}


_INSERT_EVENT = text("""
    INSERT INTO events (id, account_id, type, data) VALUES (:event_id, :account_id, :type, CAST(:data AS jsonb))
""")
_INSERT_DELIVERY = text("""
    INSERT INTO deliveries (id, account_id, event_id, endpoint_id, next_attempt_at)
    VALUES (:id, :account_id, :event_id, :endpoint_id, now())
""")
