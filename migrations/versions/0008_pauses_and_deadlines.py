"""A batch that its customer paused, single jobs that expire, and where a batch stands in its plan's queue."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute(PAUSES)
    op.execute(DEADLINES)
    op.execute(SINGLE_JOBS)
    op.execute(QUEUE_POSITION)


PAUSES = """
ALTER TABLE batches DROP CONSTRAINT batches_paused_reason_check;
ALTER TABLE batches
    -- Since when its customer wants nothing of it to start (its customer alone takes that back). While another reason
    -- pauses it too, paused_reason names that one; `requested` is what is left when that one is gone.
    ADD COLUMN pause_requested_at timestamptz,
    ADD CONSTRAINT batches_paused_reason_check
        CHECK (paused_reason IN ('max_cost', 'spend_cap', 'account_suspended', 'requested')),
    ADD CHECK (pause_requested_at IS NULL OR state IN ('validating', 'paused')),
    ADD CHECK (paused_reason <> 'requested' OR pause_requested_at IS NOT NULL);
"""

# Single jobs have a deadline only where their customer set one: the others are not in the index.
DEADLINES = """
DROP INDEX batches_due;
CREATE INDEX batches_due ON batches (expires_at)
    WHERE state IN ('validating', 'in_progress', 'paused') AND expires_at IS NOT NULL;
"""

# As in 0004, with the seconds after which a job expires.
SINGLE_JOBS = """
CREATE OR REPLACE FUNCTION store_single_jobs(wanted_account uuid, wanted_period timestamptz, tokens_per_month bigint,
    max_queued_tokens bigint, hard_cap bigint, tokens bigint, cost bigint, wanted_plan text, jobs jsonb, bodies bytea[])
RETURNS timestamptz
LANGUAGE plpgsql AS
$$
BEGIN
    PERFORM set_config('batchyard.account_id', wanted_account::text, true);
    IF NOT hold_quota(wanted_account, wanted_period, tokens, cost, tokens_per_month, max_queued_tokens, hard_cap) THEN
        RETURN NULL;
    END IF;
    WITH wanted AS MATERIALIZED (
        SELECT * FROM ROWS FROM (
            jsonb_to_recordset(jobs) AS (id uuid, api_key_id uuid, endpoint text, model text, metadata jsonb,
                custom_id text, tokens int, cost bigint, expires_in int),
            unnest(bodies)
        ) AS w (id, api_key_id, endpoint, model, metadata, custom_id, tokens, cost, expires_in, body)
    ), batch AS (
        INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, model, metadata, state, total,
            in_progress_at, period_start, reserved_tokens, reserved_cost, expires_at)
        SELECT w.id, wanted_account, w.api_key_id, wanted_plan, 'single', w.endpoint, w.model, w.metadata,
            'in_progress', 1, now(), wanted_period, w.tokens, w.cost, now() + make_interval(secs => w.expires_in)
        FROM wanted w
    )
    INSERT INTO jobs (batch_id, seq, account_id, tokens, cost, custom_id, body)
    SELECT w.id, 0, wanted_account, w.tokens, w.cost, w.custom_id, w.body FROM wanted w;
    RETURN now();
END
$$;
"""

# What stands before a batch that waits: of other accounts the web learns two sums alone. Rows count as far as they are
# claimed before the batch's own turn: of an account that is served before, and of a batch, one claim. No account costs
# more than a claim's worth of index entries, and the batch's own no more than `counted`.
QUEUE_POSITION = """
CREATE FUNCTION queue_position(wanted uuid, claim_rows int, counted int)
RETURNS TABLE (accounts_ahead bigint, rows_ahead bigint)
STABLE SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    WITH RECURSIVE mine AS MATERIALIZED (
        SELECT b.id, b.plan, b.account_id, b.served_at, a.virtual_time, coalesce(c.virtual_time, 0) AS clock
        FROM batches b JOIN accounts a ON a.id = b.account_id LEFT JOIN plan_clocks c ON c.plan = b.plan
        WHERE b.id = wanted AND b.account_id = current_account() AND b.kind <> 'single'
            AND b.state = 'in_progress' AND (b.cursor < b.total OR b.returned > 0) AND NOT b.held_back
            AND NOT EXISTS (SELECT 1 FROM claims l WHERE l.batch_id = b.id AND l.state = 'leased')
    ), waiting AS (
        (SELECT b.account_id FROM mine, batches b
         WHERE b.plan = mine.plan AND b.state = 'in_progress' AND (b.cursor < b.total OR b.returned > 0)
            AND NOT b.held_back
         ORDER BY b.account_id LIMIT 1)
        UNION ALL
        SELECT (SELECT b.account_id FROM mine, batches b
                WHERE b.plan = mine.plan AND b.account_id > waiting.account_id AND b.state = 'in_progress'
                    AND (b.cursor < b.total OR b.returned > 0) AND NOT b.held_back
                ORDER BY b.account_id LIMIT 1)
        FROM waiting WHERE waiting.account_id IS NOT NULL
    ), ahead AS MATERIALIZED (
        SELECT a.id FROM waiting JOIN accounts a ON a.id = waiting.account_id, mine
        WHERE (greatest(a.virtual_time, mine.clock), a.virtual_time, a.id)
            < (greatest(mine.virtual_time, mine.clock), mine.virtual_time, mine.account_id)
    ), others AS (
        SELECT coalesce(sum(least(claim_rows, theirs.rows)), 0) AS rows FROM mine, ahead, LATERAL (
            SELECT sum(first.rows) AS rows FROM (
                SELECT b.total - b.cursor + b.returned AS rows FROM batches b
                WHERE b.plan = mine.plan AND b.account_id = ahead.id AND b.state = 'in_progress'
                    AND (b.cursor < b.total OR b.returned > 0) AND NOT b.held_back
                ORDER BY (b.kind <> 'single'), b.served_at, b.id LIMIT claim_rows
            ) AS first
        ) AS theirs
    ), own AS (
        SELECT coalesce(sum(before.rows), 0) AS rows FROM mine, LATERAL (
            SELECT least(claim_rows, b.total - b.cursor + b.returned) AS rows FROM batches b
            WHERE b.plan = mine.plan AND b.account_id = mine.account_id AND b.state = 'in_progress'
                AND (b.cursor < b.total OR b.returned > 0) AND NOT b.held_back
                AND ((b.kind <> 'single'), b.served_at, b.id) < (true, mine.served_at, mine.id)
            ORDER BY (b.kind <> 'single'), b.served_at, b.id LIMIT counted
        ) AS before
    )
    SELECT (SELECT count(*) FROM ahead), (others.rows + own.rows)::bigint FROM mine, others, own
$$;
REVOKE EXECUTE ON FUNCTION queue_position FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queue_position TO batchyard_web;
"""
