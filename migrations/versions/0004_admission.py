"""Admission: billing periods, reservations of tokens and money, caps, keys that rotate, an audit log, the platform."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(ACCOUNTS)
    op.execute(KEYS)
    op.execute(RESERVATIONS)
    op.execute(SINGLE_JOBS)
    op.execute(PLATFORM)
    op.execute(AUDIT)
    op.execute(IDEMPOTENCY)


ACCOUNTS = """
-- active: its keys are served; suspended: they are refused, and nothing of it begins (the operator moves it both ways)
ALTER TABLE accounts
    ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    -- Billing periods are months from here on.
    ADD COLUMN billing_anchor timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    -- Its own values of the plan's limits: {"max_rows": 500000}
    ADD COLUMN overrides jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(overrides) = 'object'),
    -- Nano-dollars a period. soft: its owner is told; hard: nothing more is accepted, and nothing more begins.
    ADD COLUMN soft_cap bigint CHECK (soft_cap > 0),
    ADD COLUMN hard_cap bigint CHECK (hard_cap > 0);

-- Months are counted from the anchor itself: one on the 31st ends on a month's last day and returns to the 31st.
CREATE FUNCTION billing_period(anchor timestamptz, at timestamptz, OUT period_start timestamptz,
    OUT period_end timestamptz)
IMMUTABLE PARALLEL SAFE LANGUAGE sql AS
$$
    WITH utc AS (
        SELECT anchor AT TIME ZONE 'UTC' AS first, at AT TIME ZONE 'UTC' AS moment
    ), turned AS (
        SELECT first, moment, 12 * (extract(year FROM moment) - extract(year FROM first))::int
            + (extract(month FROM moment) - extract(month FROM first))::int AS months
        FROM utc
    ), whole AS (
        SELECT first, months - (first + make_interval(months => months) > moment)::int AS months FROM turned
    )
    SELECT (first + make_interval(months => months)) AT TIME ZONE 'UTC',
        (first + make_interval(months => months + 1)) AT TIME ZONE 'UTC'
    FROM whole
$$;
"""

KEYS = """
-- The key that this one took over from; that one ends when their overlap does.
ALTER TABLE api_keys ADD COLUMN replaces uuid REFERENCES api_keys;
GRANT INSERT ON api_keys TO batchyard_web;
GRANT UPDATE (expires_at, revoked_at) ON api_keys TO batchyard_web;

-- Before authentication no account is set, so the look-up of one exact prefix runs with the owner's rights.
DROP FUNCTION find_api_key;
CREATE FUNCTION find_api_key(wanted text)
RETURNS TABLE (id uuid, account_id uuid, plan text, secret_hash bytea, scopes text[], expires_at timestamptz,
    state text, overrides jsonb, hard_cap bigint, period_start timestamptz, period_end timestamptz)
STABLE SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    SELECT k.id, k.account_id, a.plan, k.secret_hash, k.scopes, k.expires_at, a.state, a.overrides, a.hard_cap,
        p.period_start, p.period_end
    FROM api_keys k JOIN accounts a ON a.id = k.account_id, billing_period(a.billing_anchor, now()) AS p
    WHERE k.prefix = wanted AND k.revoked_at IS NULL
$$;
REVOKE EXECUTE ON FUNCTION find_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key TO batchyard_web;

-- When keys were last used, told for many at once and not with each request.
CREATE FUNCTION note_key_uses(key_ids uuid[], moments timestamptz[]) RETURNS void
SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    UPDATE api_keys k SET last_used_at = used.moment FROM unnest(key_ids, moments) AS used (id, moment)
    WHERE k.id = used.id AND (k.last_used_at IS NULL OR k.last_used_at < used.moment)
$$;
REVOKE EXECUTE ON FUNCTION note_key_uses FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_key_uses TO batchyard_web;
"""

# What is held for a batch stands on its own row, which every flush of its results changes anyway.
RESERVATIONS = """
DROP TABLE reservations;

-- What one account used, and what is held for its jobs, in one billing period; costs are nano-dollars. The limits are
-- the plan's and the account's: used + reserved never passes them at admission.
ALTER TABLE quotas
    DROP COLUMN token_limit,
    ADD COLUMN cost_used bigint NOT NULL DEFAULT 0 CHECK (cost_used >= 0),
    ADD COLUMN cost_reserved bigint NOT NULL DEFAULT 0 CHECK (cost_reserved >= 0),
    ADD COLUMN soft_cap_reached_at timestamptz;
GRANT SELECT, INSERT, UPDATE ON quotas TO batchyard_web;

-- What was held for a job at admission, and is let go when its result is written: tokens of its prompt and its answer
-- by their bounds, and their cost.
ALTER TABLE jobs
    ADD COLUMN tokens int NOT NULL DEFAULT 0 CHECK (tokens >= 0),
    ADD COLUMN cost bigint NOT NULL DEFAULT 0 CHECK (cost >= 0);

ALTER TABLE batches DROP CONSTRAINT batches_state_check;
ALTER TABLE batches
    -- paused: nothing new starts until paused_reason is gone (whoever removes it moves the batch back to in_progress)
    ADD CONSTRAINT batches_state_check CHECK (state IN ('validating', 'in_progress', 'paused', 'cancelling', 'expiring',
        'completed', 'failed', 'cancelled', 'expired')),
    -- max_cost: the batch's own; spend_cap, account_suspended: its account's
    ADD COLUMN paused_reason text CHECK (paused_reason IN ('max_cost', 'spend_cap', 'account_suspended')),
    ADD CHECK ((state = 'paused') = (paused_reason IS NOT NULL)),
    ADD COLUMN paused_at timestamptz,
    -- The account's period that admitted it, and what is still held there for its jobs.
    ADD COLUMN period_start timestamptz,
    ADD COLUMN reserved_tokens bigint NOT NULL DEFAULT 0 CHECK (reserved_tokens >= 0),
    ADD COLUMN reserved_cost bigint NOT NULL DEFAULT 0 CHECK (reserved_cost >= 0),
    -- What its jobs under claims may cost leaves no room for another claim below its max_cost, until some have ended.
    ADD COLUMN held_back boolean NOT NULL DEFAULT false;
DROP INDEX batches_claimable;
CREATE INDEX batches_claimable ON batches (plan, account_id, (kind <> 'single'), served_at, id)
    WHERE state = 'in_progress' AND (cursor < total OR returned > 0) AND NOT held_back;
DROP INDEX batches_due;
CREATE INDEX batches_due ON batches (expires_at) WHERE state IN ('validating', 'in_progress', 'paused');
CREATE INDEX batches_open ON batches (account_id, id)
    WHERE state IN ('validating', 'in_progress', 'paused', 'cancelling', 'expiring');

ALTER TABLE claims
    ADD COLUMN account_id uuid,
    -- What its jobs without a result may cost, where a cap on the cost is watched.
    ADD COLUMN cost bigint NOT NULL DEFAULT 0 CHECK (cost >= 0);
UPDATE claims c SET account_id = b.account_id FROM batches b WHERE b.id = c.batch_id;
ALTER TABLE claims ALTER COLUMN account_id SET NOT NULL;
CREATE INDEX claims_running ON claims (account_id) WHERE state = 'leased';
ALTER TABLE claims ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON claims USING (account_id = (SELECT current_account()));
"""

# Admission is asked for with every single job, so that it is one statement for the web. It runs with the web's rights,
# as the account that it names.
SINGLE_JOBS = """
-- Whether an account has room for so much, in its period: then it is held. What is held in its other periods is read
-- without a lock, as tokens come to the row of the current one. But an ingest or a request that began before a period's
-- end still holds in the old one: where both rows grow at once, max_queued_tokens may be passed by what comes to one of
-- them meanwhile. What a period itself may have is never passed.
CREATE FUNCTION hold_quota(wanted_account uuid, wanted_period timestamptz, wanted_tokens bigint, wanted_cost bigint,
    tokens_per_month bigint, max_queued_tokens bigint, hard_cap bigint) RETURNS boolean
LANGUAGE plpgsql AS
$$
BEGIN
    UPDATE quotas q SET reserved = q.reserved + wanted_tokens, cost_reserved = q.cost_reserved + wanted_cost
    WHERE q.account_id = wanted_account AND q.period_start = wanted_period
        AND (wanted_tokens = 0 OR q.used + q.reserved + wanted_tokens <= tokens_per_month)
        AND (hard_cap IS NULL OR q.cost_used + q.cost_reserved + wanted_cost <= hard_cap)
        AND (wanted_tokens = 0 OR q.reserved + wanted_tokens + (
            SELECT coalesce(sum(o.reserved), 0) FROM quotas o
            WHERE o.account_id = wanted_account AND o.period_start <> wanted_period AND o.reserved > 0
        ) <= max_queued_tokens);
    RETURN FOUND;
END
$$;

-- Stores single jobs with what they may use held, all of them or none. Returns when, or null where there is no room.
CREATE FUNCTION store_single_jobs(wanted_account uuid, wanted_period timestamptz, tokens_per_month bigint,
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
                custom_id text, tokens int, cost bigint),
            unnest(bodies)
        ) AS w (id, api_key_id, endpoint, model, metadata, custom_id, tokens, cost, body)
    ), batch AS (
        INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, model, metadata, state, total,
            in_progress_at, period_start, reserved_tokens, reserved_cost)
        SELECT w.id, wanted_account, w.api_key_id, wanted_plan, 'single', w.endpoint, w.model, w.metadata,
            'in_progress', 1, now(), wanted_period, w.tokens, w.cost
        FROM wanted w
    )
    INSERT INTO jobs (batch_id, seq, account_id, tokens, cost, custom_id, body)
    SELECT w.id, 0, wanted_account, w.tokens, w.cost, w.custom_id, w.body FROM wanted w;
    RETURN now();
END
$$;
"""

PLATFORM = """
-- One row: the switch that stops all calls, and what was spent in this calendar month (UTC) of the platform's own cap.
CREATE TABLE platform (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    stopped_at timestamptz,
    stopped_reason text,
    hard_cap bigint CHECK (hard_cap > 0),
    month timestamptz NOT NULL DEFAULT '-infinity',
    spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
    CHECK ((stopped_at IS NULL) = (stopped_reason IS NULL))
);
INSERT INTO platform DEFAULT VALUES;
"""

AUDIT = """
-- What operators and account owners did, with who and when. Written in the transaction of the act, never changed.
CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- An API key's shown id, or 'command line'.
    actor text NOT NULL,
    action text NOT NULL,
    account_id uuid REFERENCES accounts,
    details jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_of_account ON audit_log (account_id, id);
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON audit_log USING (account_id = (SELECT current_account()));
GRANT INSERT ON audit_log TO batchyard_web;
"""

IDEMPOTENCY = """
ALTER TABLE idempotency_keys ADD COLUMN headers jsonb;
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO batchyard_web;
"""
