"""Accounts, keys, files, batches and what hangs on them."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(ACCOUNTS)
    op.execute(BATCHES)
    op.execute(WORK)
    op.execute(ACCESS)


ACCOUNTS = """
CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    plan text NOT NULL CHECK (plan <> ''),
    -- Estimated tokens claimed so far, divided by the plan's weight: the account with the least is served next.
    virtual_time double precision NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    email text NOT NULL CHECK (email = lower(email)),
    password_hash text NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'developer', 'billing')),
    email_verified_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (email)
);

-- A key is <prefix>_<secret>. The prefix finds the row; of the secret only a keyed hash is kept.
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    name text NOT NULL,
    prefix text NOT NULL UNIQUE,
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    scopes text[] NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_of_account ON api_keys (account_id, id);

CREATE TABLE files (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    purpose text NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    filename text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    storage_key text NOT NULL UNIQUE,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_of_account ON files (account_id, id);
"""

BATCHES = """
CREATE TABLE batches (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    api_key_id uuid NOT NULL REFERENCES api_keys,
    plan text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('single', 'jsonl', 'csv', 'inline')),
    endpoint text NOT NULL CHECK (endpoint IN
        ('/v1/chat/completions', '/v1/responses', '/v1/completions', '/v1/embeddings')),
    model text,
    metadata jsonb,
    -- How the rows are read from the input: for a CSV its dialect and the templates.
    input jsonb,
    input_file_id uuid REFERENCES files ON DELETE SET NULL,
    -- Line errors of a failed ingest, at most 1,000 of error_count.
    errors jsonb,
    error_count int NOT NULL DEFAULT 0,

    -- validating: ingest reads the input (ingest moves it on)
    -- in_progress: jobs are pending or running (the flush that records the last outcome moves it on)
    -- cancelling: nothing new starts; rows never started get a cancelled result (close moves it on)
    -- completed, failed, cancelled, expired: the end
    state text NOT NULL CHECK (state IN
        ('validating', 'in_progress', 'cancelling', 'completed', 'failed', 'cancelled', 'expired')),
    total int NOT NULL DEFAULT 0 CHECK (total >= 0),
    -- The next row never claimed. Pending work is [cursor, total) and the rows of returned claims.
    cursor int NOT NULL DEFAULT 0,
    returned int NOT NULL DEFAULT 0 CHECK (returned >= 0),
    succeeded int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    cancelled int NOT NULL DEFAULT 0,
    expired int NOT NULL DEFAULT 0,

    prompt_tokens bigint NOT NULL DEFAULT 0,
    cached_tokens bigint NOT NULL DEFAULT 0,
    completion_tokens bigint NOT NULL DEFAULT 0,
    cost bigint NOT NULL DEFAULT 0,
    max_cost bigint CHECK (max_cost > 0),

    -- When a piece of it was last claimed: an account's batches are served in turn.
    served_at timestamptz NOT NULL DEFAULT '-infinity',
    -- Outcomes a second as an exponentially weighted average, true at rate_at.
    rate double precision NOT NULL DEFAULT 0,
    rate_at timestamptz,

    webhook_url text,
    created_at timestamptz NOT NULL DEFAULT now(),
    in_progress_at timestamptz,
    started_at timestamptz,
    cancelling_at timestamptz,
    ended_at timestamptz,
    expires_at timestamptz,

    CHECK (cursor BETWEEN 0 AND total),
    CHECK (succeeded + failed + cancelled + expired <= total),
    CHECK ((state IN ('completed', 'failed', 'cancelled', 'expired')) = (ended_at IS NOT NULL)),
    CHECK (state NOT IN ('completed', 'cancelled', 'expired') OR succeeded + failed + cancelled + expired = total)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX batches_single ON batches (account_id, id) WHERE kind = 'single';
CREATE INDEX batches_bulk ON batches (account_id, id) WHERE kind <> 'single';
-- The heart of the claim: first the account, then its single jobs, then its batches in turn.
CREATE INDEX batches_claimable ON batches (plan, account_id, (kind <> 'single'), served_at, id)
    WHERE state = 'in_progress' AND (cursor < total OR returned > 0);
-- What the sweep looks after.
CREATE INDEX batches_unsettled ON batches (state, created_at) WHERE state IN ('validating', 'cancelling');

-- Written once by COPY, never updated. No foreign key: its check of every row would halve the speed of ingest, and
-- rows are written in the transaction that owns their batch. body is bytes, so that what was submitted is what is sent.
CREATE TABLE jobs (
    batch_id uuid NOT NULL,
    seq int NOT NULL CHECK (seq >= 0),
    account_id uuid NOT NULL,
    custom_id text NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (batch_id, seq)
);

CREATE TABLE results (
    batch_id uuid NOT NULL,
    seq int NOT NULL,
    account_id uuid NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'expired')),
    status_code smallint,
    body bytea,
    error_code text,
    error_message text,
    attempts smallint NOT NULL CHECK (attempts >= 0),
    provider text,
    request_id text,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    PRIMARY KEY (batch_id, seq),
    CHECK (outcome <> 'succeeded' OR (status_code = 200 AND body IS NOT NULL AND error_code IS NULL)),
    CHECK (outcome = 'succeeded' OR error_code IS NOT NULL)
);

-- The receipt of a result. Prices are nano-dollars for a million tokens; they and the cost are null where the model
-- has no known price. Outlives the bodies.
CREATE TABLE usage_records (
    batch_id uuid NOT NULL,
    seq int NOT NULL,
    account_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    model text NOT NULL,
    provider text NOT NULL,
    prompt_tokens int NOT NULL CHECK (prompt_tokens >= 0),
    cached_tokens int NOT NULL CHECK (cached_tokens BETWEEN 0 AND prompt_tokens),
    completion_tokens int NOT NULL CHECK (completion_tokens >= 0),
    prompt_price bigint,
    cached_price bigint,
    completion_price bigint,
    cost bigint CHECK (cost >= 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (batch_id, seq),
    CHECK ((cost IS NULL) = (prompt_price IS NULL OR cached_price IS NULL OR completion_price IS NULL))
);
CREATE INDEX usage_records_of_account ON usage_records (account_id, created_at);
"""

WORK = """
-- leased: a worker runs it until lease_until (the flush of its last outcome deletes it; the sweep returns it)
-- returned: its rows without a result are pending again (the next claim leases it with a higher fence)
CREATE TABLE claims (
    id uuid PRIMARY KEY,
    batch_id uuid NOT NULL REFERENCES batches,
    first_seq int NOT NULL,
    end_seq int NOT NULL,
    pending int NOT NULL CHECK (pending BETWEEN 0 AND end_seq - first_seq),
    state text NOT NULL CHECK (state IN ('leased', 'returned')),
    fence bigint NOT NULL DEFAULT 1,
    worker text NOT NULL,
    lease_until timestamptz NOT NULL,
    CHECK (first_seq < end_seq)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX claims_of_batch ON claims (batch_id);
CREATE INDEX claims_leased ON claims (lease_until) WHERE state = 'leased';

-- The virtual time at which each plan last served: an account that wakes up starts here, not in the past.
CREATE TABLE plan_clocks (
    plan text PRIMARY KEY,
    virtual_time double precision NOT NULL DEFAULT 0
);
"""

ACCESS = """
CREATE FUNCTION current_account() RETURNS uuid STABLE PARALLEL SAFE LANGUAGE sql AS
$$ SELECT nullif(current_setting('batchyard.account_id', true), '')::uuid $$;

ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON accounts USING (id = (SELECT current_account()));

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['users', 'api_keys', 'files', 'batches', 'jobs', 'results', 'usage_records'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_rows ON %I USING (account_id = (SELECT current_account()))', name);
    END LOOP;
END $$;

GRANT SELECT ON accounts, api_keys, files, batches, jobs, results, usage_records TO batchyard_web;
GRANT INSERT ON files, batches, jobs, results TO batchyard_web;
GRANT UPDATE ON batches TO batchyard_web;

-- Before authentication no account is set, so the look-up of one exact prefix runs with the owner's rights.
CREATE FUNCTION find_api_key(wanted text)
RETURNS TABLE (id uuid, account_id uuid, plan text, secret_hash bytea, scopes text[], expires_at timestamptz)
STABLE SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    SELECT k.id, k.account_id, a.plan, k.secret_hash, k.scopes, k.expires_at
    FROM api_keys k JOIN accounts a ON a.id = k.account_id
    WHERE k.prefix = wanted AND k.revoked_at IS NULL
$$;
REVOKE EXECUTE ON FUNCTION find_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key TO batchyard_web;
"""
