"""Webhooks: who is told of what, what was sent, and the trigger that writes an event with the change it tells of."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(ENDPOINTS)
    op.execute(DELIVERIES)
    op.execute(SUBMISSIONS)
    op.execute(EVENTS)
    op.execute(BATCH_EVENTS)
    op.execute(THRESHOLDS)
    op.execute(ACCESS)


# The tables of 0002 were never written.
ENDPOINTS = """
DROP TABLE attempts, deliveries, webhook_endpoints;

CREATE TABLE webhook_endpoints (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    url text NOT NULL,
    -- endpoint: made by its owner, told of every event of its types, signed with its own secret
    -- submission: made with the first job or batch that names the URL, told of those that name it, signed with the
    -- account's secret
    origin text NOT NULL DEFAULT 'endpoint' CHECK (origin IN ('endpoint', 'submission')),
    name text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    event_types text[] NOT NULL DEFAULT '{}',
    -- Whether events of jobs have the job's result with them.
    include_result boolean NOT NULL DEFAULT false,
    -- enabled: events are delivered (its owner moves it there)
    -- disabled: none are (its owner, a 410, five days of failures or its deletion, as the reason says)
    state text NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'disabled')),
    disabled_reason text CHECK (disabled_reason IN ('requested', 'gone', 'failing', 'deleted')),
    disabled_at timestamptz,
    -- Encrypted under SECRET_KEY. Until its time is over the previous one signs too.
    secret bytea,
    previous_secret bytea,
    previous_secret_until timestamptz,
    -- Of the first failed attempt since the last 2xx.
    failing_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'disabled') = (disabled_reason IS NOT NULL)),
    CHECK ((state = 'disabled') = (disabled_at IS NOT NULL)),
    CHECK ((origin = 'endpoint') = (secret IS NOT NULL)),
    CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL))
);
CREATE INDEX webhook_endpoints_of_account ON webhook_endpoints (account_id, id);
-- Every event asks for these, and URLs of submissions may be very many.
CREATE INDEX webhook_endpoints_listening ON webhook_endpoints (account_id)
    WHERE origin = 'endpoint' AND state = 'enabled';
CREATE UNIQUE INDEX webhook_endpoints_of_submissions ON webhook_endpoints (account_id, url)
    WHERE origin = 'submission' AND disabled_reason IS DISTINCT FROM 'deleted';
CREATE INDEX webhook_endpoints_of_progress ON webhook_endpoints (account_id)
    WHERE origin = 'endpoint' AND state = 'enabled' AND 'batch.progress' = ANY (event_types);

-- What signs for URLs that jobs and batches name.
CREATE TABLE webhook_secrets (
    account_id uuid PRIMARY KEY REFERENCES accounts,
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_secret_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL))
);
"""

DELIVERIES = """
CREATE TABLE deliveries (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    event_id uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    -- pending: the next attempt is due at next_attempt_at (the deliverer that claims it moves it on)
    -- sending: an attempt is under way until lease_until (its record moves it on, or the next claim after the lease)
    -- delivered: a 2xx came
    -- failed: given up, after the last attempt of the schedule or with its endpoint (a redelivery makes it pending)
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'delivered', 'failed')),
    -- Attempts ever begun, by which a stale deliverer is told, and of them those of the schedule that runs now.
    attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    scheduled smallint NOT NULL DEFAULT 0 CHECK (scheduled BETWEEN 0 AND attempts),
    next_attempt_at timestamptz,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('delivered', 'failed')) = (ended_at IS NOT NULL)),
    UNIQUE (event_id, endpoint_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
-- First the endpoint, then what of it is due.
CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_attempt_at, id) WHERE state = 'pending';
CREATE INDEX deliveries_sending ON deliveries (endpoint_id, lease_until) WHERE state = 'sending';
CREATE INDEX deliveries_of_account ON deliveries (account_id, id);
CREATE INDEX deliveries_of_endpoint ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_failed ON deliveries (account_id, ended_at) WHERE state = 'failed';

-- Written once, when the attempt is over.
CREATE TABLE attempts (
    delivery_id uuid NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    number int NOT NULL CHECK (number >= 1),
    account_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    milliseconds int NOT NULL CHECK (milliseconds >= 0),
    status_code smallint,
    -- What went wrong, named; null after a 2xx.
    failure text,
    -- The first bytes of what the receiver answered.
    answer bytea,
    PRIMARY KEY (delivery_id, number)
);
"""

SUBMISSIONS = """
ALTER TABLE batches
    -- Which events its webhook_url is told of; null: those that end it.
    ADD COLUMN webhook_events text[],
    -- Rows that had ended when its progress was last told, and when that was.
    ADD COLUMN progress_told int NOT NULL DEFAULT 0,
    ADD COLUMN progress_told_at timestamptz,
    ADD CHECK (webhook_events IS NULL OR webhook_url IS NOT NULL);
CREATE INDEX batches_telling_progress ON batches (id)
    WHERE state = 'in_progress' AND 'batch.progress' = ANY (webhook_events);
CREATE INDEX batches_running ON batches (account_id) WHERE state = 'in_progress' AND kind <> 'single';

-- As in 0008, with where a job's end is told.
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
                custom_id text, tokens int, cost bigint, expires_in int, webhook_url text, webhook_events text[]),
            unnest(bodies)
        ) AS w (id, api_key_id, endpoint, model, metadata, custom_id, tokens, cost, expires_in, webhook_url,
            webhook_events, body)
    ), batch AS (
        INSERT INTO batches (id, account_id, api_key_id, plan, kind, endpoint, model, metadata, state, total,
            in_progress_at, period_start, reserved_tokens, reserved_cost, expires_at, webhook_url, webhook_events)
        SELECT w.id, wanted_account, w.api_key_id, wanted_plan, 'single', w.endpoint, w.model, w.metadata,
            'in_progress', 1, now(), wanted_period, w.tokens, w.cost, now() + make_interval(secs => w.expires_in),
            w.webhook_url, w.webhook_events
        FROM wanted w
    )
    INSERT INTO jobs (batch_id, seq, account_id, tokens, cost, custom_id, body)
    SELECT w.id, 0, wanted_account, w.tokens, w.cost, w.custom_id, w.body FROM wanted w;
    RETURN now();
END
$$;
"""

# An event is written by the transaction that makes it true: the database sees to that, whoever changes the state.
EVENTS = """
CREATE INDEX events_of_batch ON events (batch_id, id) WHERE batch_id IS NOT NULL;

-- Writes an event with a delivery for each enabled endpoint that wants it, and for `own_url`, which a job or batch
-- names, where `own_wants` says so. An event with `heard` is written only where somebody asked to hear of it: there may
-- be millions. `batchyard.deliveries` then tells the rest of the transaction that something is to be delivered.
CREATE FUNCTION write_event(wanted_account uuid, wanted_type text, of_batch uuid, wanted_data jsonb, heard boolean,
    own_url text DEFAULT NULL, own_wants boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql AS
$$
DECLARE
    receivers uuid[];
    own_id uuid;
    new_id uuid := uuidv7();
BEGIN
    SELECT array_agg(e.id) INTO receivers FROM webhook_endpoints e
    WHERE e.account_id = wanted_account AND e.origin = 'endpoint' AND e.state = 'enabled'
        AND wanted_type = ANY (e.event_types);
    IF own_url IS NOT NULL AND own_wants THEN
        -- Made when it was submitted; its owner may have deleted it since.
        SELECT e.id INTO own_id FROM webhook_endpoints e
        WHERE e.account_id = wanted_account AND e.url = own_url AND e.origin = 'submission' AND e.state = 'enabled'
            AND e.disabled_reason IS DISTINCT FROM 'deleted';
        IF own_id IS NOT NULL THEN
            receivers := receivers || own_id;
        END IF;
    END IF;
    -- One that its own job or batch asked for is there even where its URL is disabled by now, so that none is missing
    -- unnoticed.
    IF receivers IS NULL AND heard AND NOT (own_url IS NOT NULL AND own_wants) THEN
        RETURN;
    END IF;
    INSERT INTO events (id, account_id, type, batch_id, data, created_at)
    VALUES (new_id, wanted_account, wanted_type, of_batch, wanted_data, clock_timestamp());
    IF receivers IS NOT NULL THEN
        INSERT INTO deliveries (id, account_id, event_id, endpoint_id, next_attempt_at)
        SELECT uuidv7(), wanted_account, new_id, receiver, clock_timestamp() FROM unnest(receivers) AS receiver;
        PERFORM set_config('batchyard.deliveries', 'on', true);
    END IF;
END
$$;
"""

# A single job has its end alone: cancelled and expired are failures to answer, and GET /v1/jobs/{id} says which.
BATCH_EVENTS = """
CREATE FUNCTION tell_of_batch() RETURNS trigger LANGUAGE plpgsql AS
$$
DECLARE
    of_single boolean;
    told text;
    shown text;
BEGIN
    -- Jobs end by the million, and of most nobody hears: they pay for this look alone.
    IF NEW.kind = 'single' AND NEW.webhook_url IS NULL AND NOT EXISTS (SELECT 1 FROM webhook_endpoints e
            WHERE e.account_id = NEW.account_id AND e.origin = 'endpoint' AND e.state = 'enabled') THEN
        RETURN NULL;
    END IF;
    of_single := NEW.kind = 'single';
    told := CASE
        WHEN NOT of_single THEN 'batch.' || NEW.state
        WHEN NEW.state = 'completed' AND NEW.succeeded = 1 THEN 'job.completed'
        ELSE 'job.failed'
        END;
    shown := CASE WHEN of_single THEN 'job_' ELSE 'batch_' END || replace(NEW.id::text, '-', '');
    PERFORM write_event(NEW.account_id, told, NEW.id, jsonb_build_object('id', shown), of_single, NEW.webhook_url,
        coalesce(told = ANY (NEW.webhook_events), NEW.ended_at IS NOT NULL));
    RETURN NULL;
END
$$;
CREATE TRIGGER tell_of_batch AFTER UPDATE OF state ON batches FOR EACH ROW
    WHEN (NEW.state IS DISTINCT FROM OLD.state AND (NEW.state IN ('completed', 'failed', 'cancelled', 'expired')
        OR NEW.state IN ('in_progress', 'paused') AND NEW.kind <> 'single'))
    EXECUTE FUNCTION tell_of_batch();
"""

# The highest share, in percent, of a limit that the account was told that it used in the period: 0, 50, 80 or 100.
THRESHOLDS = """
ALTER TABLE quotas
    ADD COLUMN told_of_tokens smallint NOT NULL DEFAULT 0 CHECK (told_of_tokens IN (0, 50, 80, 100)),
    ADD COLUMN told_of_cost smallint NOT NULL DEFAULT 0 CHECK (told_of_cost IN (0, 50, 80, 100));

-- The highest of these shares that so much is of a limit; 0 where there is no limit.
CREATE FUNCTION share_reached(used bigint, of_limit bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$
    SELECT CASE WHEN used >= of_limit THEN 100 WHEN used >= of_limit * 0.8 THEN 80 WHEN used >= of_limit * 0.5 THEN 50
        ELSE 0 END::smallint
$$;
"""

ACCESS = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['webhook_endpoints', 'webhook_secrets', 'deliveries', 'attempts'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_rows ON %I USING (account_id = (SELECT current_account()))', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT ON events, webhook_endpoints, webhook_secrets, deliveries TO batchyard_web;
GRANT UPDATE ON webhook_endpoints, webhook_secrets, deliveries TO batchyard_web;
GRANT SELECT ON attempts TO batchyard_web;
"""
