"""The events that webhooks tell of. Their triggers and writers are in the database and beside what they tell of; here
are their names, and what is shown of one."""

from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from common import ids, json_text

BatchEvent = Literal[
    "batch.in_progress",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "batch.paused",
    "batch.progress",
]
JobEvent = Literal["job.completed", "job.failed"]
EventType = Literal[BatchEvent, JobEvent, "usage.threshold_reached", "webhook_endpoint.disabled"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
# There may be very many: who wants them names them.
BY_NAME_ALONE: frozenset[EventType] = frozenset({"batch.progress"})
DEFAULT_TYPES = tuple(name for name in EVENT_TYPES if name not in BY_NAME_ALONE)
BATCH_TYPES: tuple[BatchEvent, ...] = get_args(BatchEvent)
JOB_TYPES: tuple[JobEvent, ...] = get_args(JobEvent)


def body(event_id: UUID, event_type: str, created_at: datetime, data: dict[str, Any]) -> bytes:
    """What is sent, in the form of OpenAI's webhooks: the same bytes at each attempt."""
    event = {
        "id": ids.show("evt_", event_id),
        "object": "event",
        "created_at": int(created_at.timestamp()),
        "type": event_type,
        "data": data,
    }
    return json_text.dumps(event)
