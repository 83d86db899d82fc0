"""What is kept no longer: files past their expiry or deleted, the jobs and results of batches that ended long ago,
events, idempotency keys, and what is over of people's. Deleted in small steps, and usage records stay."""

import logging
from itertools import accumulate
from uuid import UUID

from sqlalchemy import Connection, text

from common import storage
from common.database import owner_engine
from common.errors import Unavailable
from common.idempotency import KEPT
from worker.event_retention import delete_events
from worker.people_retention import delete_what_is_over

log = logging.getLogger(__name__)

FILES_PER_STEP = 20
ROWS_PER_STEP = 5_000
BATCHES_PER_STEP = 1_000
KEYS_PER_STEP = 5_000
STEPS_PER_PASS = 20


def run() -> None:
    """One pass. May be run twice, and by several at once."""
    with owner_engine().begin() as connection:
        connection.execute(_EXPIRE_FILES)
    delete_idempotency_keys()
    delete_rows()
    delete_events()
    delete_what_is_over()
    delete_contents()


def delete_idempotency_keys() -> None:
    """Those that are as good as none by now."""
    for _ in range(STEPS_PER_PASS):
        with owner_engine().begin() as connection:
            deleted = connection.execute(_DELETE_KEYS, {"kept": KEPT, "limit": KEYS_PER_STEP}).rowcount
        if deleted < KEYS_PER_STEP:
            return


def delete_contents() -> None:
    """Content goes before its row says so: a crash between has it deleted again, which is fine. One that cannot be
    deleted is left for the next pass and holds up no other."""
    after = UUID(int=0)
    for _ in range(STEPS_PER_PASS):
        with owner_engine().begin() as connection:
            found = connection.execute(_FILES_TO_PURGE, {"after": after, "limit": FILES_PER_STEP}).all()
        if not found:
            return
        gone = [file.id for file in found if _is_deleted(file.storage_key)]
        with owner_engine().begin() as connection:
            connection.execute(_FILES_PURGED, {"ids": gone})
        after = found[-1].id


def _is_deleted(storage_key: str) -> bool:
    try:
        storage.delete(storage_key)
    except (Unavailable, OSError) as error:
        log.warning("content could not be deleted; it is tried again", extra={"key": storage_key, "error": str(error)})
        return False
    return True


def delete_rows() -> None:
    """Jobs and results of the batches whose time is over, some thousand at a time."""
    for _ in range(STEPS_PER_PASS):
        with owner_engine().begin() as connection:
            if not _delete_some_rows(connection):
                return


def _delete_some_rows(connection: Connection) -> bool:
    due = connection.execute(_BATCHES_TO_PURGE, {"limit": BATCHES_PER_STEP}).all()
    # A step is a part of one large batch or many small ones: every single job is a batch of one.
    sums = accumulate(batch.total for batch in due)
    batch_ids = [batch.id for batch, rows in zip(due, sums, strict=True) if rows <= ROWS_PER_STEP or batch is due[0]]
    parameters = {"batch_ids": batch_ids, "limit": ROWS_PER_STEP}
    results = connection.execute(_DELETE_RESULTS, parameters).rowcount
    jobs = connection.execute(_DELETE_JOBS, parameters).rowcount
    if batch_ids and results < ROWS_PER_STEP and jobs < ROWS_PER_STEP:
        connection.execute(_BATCHES_PURGED, parameters)
        log.info("jobs and results deleted: their time is over", extra={"batches": len(batch_ids)})
    return bool(due)


# One that is locked has just been taken by a new request.
_DELETE_KEYS = text("""
    DELETE FROM idempotency_keys WHERE (account_id, key) IN (
        SELECT account_id, key FROM idempotency_keys WHERE created_at <= now() - CAST(:kept AS interval)
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED)
""")

# The results of a CSV show the columns of its file, which so stays as long as they do.
_EXPIRE_FILES = text("""
    UPDATE files SET deleted_at = clock_timestamp() WHERE id IN (
        SELECT id FROM files f WHERE expires_at < now() AND deleted_at IS NULL
            AND NOT EXISTS (
                SELECT 1 FROM batches b
                WHERE b.input_file_id = f.id AND b.kind = 'csv' AND b.total > 0 AND b.purged_at IS NULL)
        ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")

# An input deleted while it is being validated is read to its end first.
_FILES_TO_PURGE = text("""
    SELECT id, storage_key FROM files f WHERE deleted_at IS NOT NULL AND storage_key IS NOT NULL AND id > :after
        AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.input_file_id = f.id AND b.state = 'validating')
    ORDER BY id LIMIT :limit
""")

_FILES_PURGED = text("UPDATE files SET storage_key = NULL WHERE id = ANY(:ids)")

_BATCHES_TO_PURGE = text("""
    SELECT id, total FROM batches WHERE results_expire_at < now() AND purged_at IS NULL
    ORDER BY results_expire_at LIMIT :limit FOR UPDATE SKIP LOCKED
""")

_DELETE_RESULTS = text("""
    DELETE FROM results WHERE (batch_id, seq) IN (
        SELECT batch_id, seq FROM results WHERE batch_id = ANY(:batch_ids) LIMIT :limit)
""")

_DELETE_JOBS = text("""
    DELETE FROM jobs WHERE (batch_id, seq) IN (
        SELECT batch_id, seq FROM jobs WHERE batch_id = ANY(:batch_ids) LIMIT :limit)
""")

_BATCHES_PURGED = text("UPDATE batches SET purged_at = clock_timestamp() WHERE id = ANY(:batch_ids)")
