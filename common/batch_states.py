"""How a batch reaches its end. Whoever writes the last outcome calls `finish` in the same transaction."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, text


def finish(connection: Connection, batch_ids: Iterable[UUID]) -> set[UUID]:
    """Ends those of these batches whose every row has its outcome; returns them. Their rows must be locked already."""
    return set(connection.execute(_FINISH, {"ids": list(batch_ids)}).scalars())


_FINISH = text("""
    UPDATE batches SET state = CASE state WHEN 'cancelling' THEN 'cancelled' ELSE 'completed' END,
        ended_at = clock_timestamp()
    WHERE id = ANY(:ids) AND state IN ('in_progress', 'cancelling')
        AND succeeded + failed + cancelled + expired = total
    RETURNING id
""")
