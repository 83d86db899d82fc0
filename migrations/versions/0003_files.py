"""Files of their own, batches from them, and what happens to both afterwards: expiry, retries, retention."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(FILES)
    op.execute(BATCHES)
    op.execute(BEGINNING)
    op.execute(MODELS)


FILES = """
-- A file is stored content, or shows rows of a batch: its outputs, or its errors. Those have no content of their own.
ALTER TABLE files
    ALTER COLUMN storage_key DROP NOT NULL,
    ADD COLUMN batch_id uuid REFERENCES batches,
    ADD COLUMN shows text CHECK (shows IN ('outputs', 'errors')),
    -- Gone for its customer; the sweep deletes what is stored once no ingest needs it.
    ADD COLUMN deleted_at timestamptz,
    ADD CHECK ((batch_id IS NULL) = (shows IS NULL)),
    ADD CHECK (num_nonnulls(storage_key, shows) = 1 OR deleted_at IS NOT NULL);
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX files_to_purge ON files (id) WHERE deleted_at IS NOT NULL AND storage_key IS NOT NULL;
GRANT UPDATE (deleted_at) ON files TO batchyard_web;
"""

# expiring: as cancelling, but its time is up (close moves it on to expired)
BATCHES = """
ALTER TABLE batches DROP CONSTRAINT batches_state_check;
ALTER TABLE batches
    ADD CONSTRAINT batches_state_check CHECK (state IN
        ('validating', 'in_progress', 'cancelling', 'expiring', 'completed', 'failed', 'cancelled', 'expired')),
    ADD COLUMN completion_window text NOT NULL DEFAULT '24h',
    -- What a bad line does to the others. fail: nothing runs; skip: the line becomes a failed row.
    ADD COLUMN on_error text NOT NULL DEFAULT 'fail' CHECK (on_error IN ('fail', 'skip')),
    -- Line errors by code: {"invalid_json_line": 12}
    ADD COLUMN error_counts jsonb,
    ADD COLUMN output_file_id uuid REFERENCES files,
    ADD COLUMN error_file_id uuid REFERENCES files,
    -- The exact size of what the two files show, kept with the counters.
    ADD COLUMN output_bytes bigint NOT NULL DEFAULT 0 CHECK (output_bytes >= 0),
    ADD COLUMN error_bytes bigint NOT NULL DEFAULT 0 CHECK (error_bytes >= 0),
    -- Seconds that its results stay after its end, where its customer asked for fewer than the plan gives.
    ADD COLUMN results_seconds int CHECK (results_seconds > 0),
    -- Rows that its customer wants to run again are being made pending (retry moves it on).
    ADD COLUMN retrying boolean NOT NULL DEFAULT false,
    ADD COLUMN expiring_at timestamptz,
    -- When its jobs and results are deleted, and when they were. Usage records stay.
    ADD COLUMN results_expire_at timestamptz,
    ADD COLUMN purged_at timestamptz;
DROP INDEX batches_unsettled;
CREATE INDEX batches_unsettled ON batches (state, created_at) WHERE state IN ('validating', 'cancelling', 'expiring');
CREATE INDEX batches_of_input ON batches (input_file_id) WHERE input_file_id IS NOT NULL;
CREATE INDEX batches_due ON batches (expires_at) WHERE state IN ('validating', 'in_progress');
CREATE INDEX batches_retrying ON batches (id) WHERE retrying;
CREATE INDEX batches_to_purge ON batches (results_expire_at) WHERE results_expire_at IS NOT NULL AND purged_at IS NULL;
"""

# The lowest claim holds the first row without a result: a claim whose rows all have theirs is deleted. While a retry
# looks for its rows, nobody knows yet which will be without theirs.
BEGINNING = """
CREATE FUNCTION finished_beginning(wanted uuid) RETURNS int
STABLE SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    SELECT CASE WHEN b.retrying THEN 0 ELSE coalesce((
        SELECT min(claimed.number) FROM (
            SELECT first_seq, end_seq FROM claims WHERE batch_id = b.id ORDER BY first_seq LIMIT 1
        ) AS lowest, generate_series(lowest.first_seq, lowest.end_seq - 1) AS claimed (number)
        WHERE NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = b.id AND r.seq = claimed.number)
    ), b.cursor) END
    FROM batches b WHERE b.id = wanted AND b.account_id = current_account()
$$;
REVOKE EXECUTE ON FUNCTION finished_beginning FROM PUBLIC;
GRANT EXECUTE ON FUNCTION finished_beginning TO batchyard_web;
"""

MODELS = """
-- What the provider says it serves, as a worker last heard.
CREATE TABLE models (
    id text PRIMARY KEY,
    owned_by text NOT NULL,
    created bigint NOT NULL,
    seen_at timestamptz NOT NULL
);
GRANT SELECT ON models TO batchyard_web;
"""
