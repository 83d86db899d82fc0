"""Endpoints that are sent nothing more: those that said that they are gone, or have failed for days. Their owner is
told, as of everything, by an event."""

import logging
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from common import ids
from common.database import driver_as_owner

log = logging.getLogger(__name__)

FAILED_PER_PASS = 5_000


def disable(connection: Connection, endpoint_ids: Sequence[UUID], reason: Literal["gone", "failing"]) -> None:
    """Disables those of the endpoints that are enabled, fails what waits for them and writes the event, all in the
    caller's transaction."""
    for endpoint_id in endpoint_ids:
        found = connection.execute(_DISABLE, {"id": endpoint_id, "reason": reason}).fetchone()
        if found is not None:
            log.warning("webhook endpoint disabled", extra={"endpoint": str(endpoint_id), "reason": reason})
            data = {"id": ids.show("we_", endpoint_id), "reason": reason}
            connection.execute(_WRITE_EVENT, {"account_id": found[0], "data": Jsonb(data)})
            connection.execute(_FAIL_PENDING, {"ids": [endpoint_id], "limit": None})


def fail_stranded() -> int:
    """Fails what waits for a disabled endpoint: an event may have been written while it was being disabled, and an
    attempt may have been under way. Returns how many there were."""
    with driver_as_owner() as connection:
        endpoint_ids = [endpoint_id for (endpoint_id,) in connection.execute(_DISABLED_WITH_PENDING)]
        if not endpoint_ids:
            return 0
        parameters: dict[str, Any] = {"ids": endpoint_ids, "limit": FAILED_PER_PASS}
        return connection.execute(_FAIL_PENDING, parameters).rowcount


_DISABLE = """
    UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = %(reason)s, disabled_at = clock_timestamp()
    WHERE id = %(id)s AND state = 'enabled' RETURNING account_id
"""

_WRITE_EVENT = "SELECT write_event(%(account_id)s, 'webhook_endpoint.disabled', NULL, %(data)s, false)"

# An attempt that was not made says why.
_FAIL_PENDING = """
    WITH stranded AS (
        SELECT id, account_id, attempts FROM deliveries WHERE endpoint_id = ANY (%(ids)s::uuid[]) AND state = 'pending'
        ORDER BY id LIMIT %(limit)s FOR UPDATE
    ), logged AS (
        INSERT INTO attempts (delivery_id, number, account_id, started_at, milliseconds, failure)
        SELECT id, attempts + 1, account_id, clock_timestamp(), 0, 'endpoint_disabled' FROM stranded
    )
    UPDATE deliveries d SET state = 'failed', attempts = d.attempts + 1, next_attempt_at = NULL,
        ended_at = clock_timestamp()
    FROM stranded s WHERE d.id = s.id
"""

# A skip scan over the endpoints for which something waits, one probe each.
_DISABLED_WITH_PENDING = """
    WITH RECURSIVE waiting AS (
        (SELECT endpoint_id FROM deliveries WHERE state = 'pending' ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.endpoint_id FROM deliveries d WHERE d.endpoint_id > waiting.endpoint_id AND d.state = 'pending'
                ORDER BY d.endpoint_id LIMIT 1)
        FROM waiting WHERE waiting.endpoint_id IS NOT NULL
    )
    SELECT e.id FROM waiting w JOIN webhook_endpoints e ON e.id = w.endpoint_id WHERE e.state = 'disabled'
"""
