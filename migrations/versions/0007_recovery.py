"""Recovery: claims know how often their process died, and workers stand in a table of their own."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(CLAIMS)
    op.execute(WORKERS)


CLAIMS = """
ALTER TABLE claims
    -- How often its lease ended without its worker's word while its rows ran. A retry begins anew.
    ADD COLUMN deaths smallint NOT NULL DEFAULT 0 CHECK (deaths >= 0),
    -- Its process runs it now, and of the claims that are suspected of ending processes only those beside it.
    ADD COLUMN on_trial boolean NOT NULL DEFAULT false;
"""

# seen_at is written every few seconds; nothing else depends on the table, so that a row may be lost.
WORKERS = """
CREATE TABLE workers (
    name text PRIMARY KEY,
    host text NOT NULL,
    pid int NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- It takes nothing new, finishes what it runs, and ends.
    drain_asked_at timestamptz
) WITH (fillfactor = 50);
"""
