"""The tables of admission, webhooks and billing, so that later work adds rows and not walls."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(ADMISSION)
    op.execute(WEBHOOKS)
    op.execute(BILLING)
    op.execute(ACCESS)


ADMISSION = """
-- Tokens of one account in one billing period. used + reserved never passes token_limit at admission.
CREATE TABLE quotas (
    account_id uuid NOT NULL REFERENCES accounts,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    token_limit bigint NOT NULL CHECK (token_limit >= 0),
    used bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (account_id, period_start),
    CHECK (period_start < period_end)
);

-- Tokens held for a batch at admission; settled as its results arrive, in the period that admitted it.
CREATE TABLE reservations (
    batch_id uuid PRIMARY KEY REFERENCES batches,
    account_id uuid NOT NULL,
    period_start timestamptz NOT NULL,
    tokens bigint NOT NULL CHECK (tokens >= 0),
    settled bigint NOT NULL DEFAULT 0 CHECK (settled BETWEEN 0 AND tokens),
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (account_id, period_start) REFERENCES quotas
);

CREATE TABLE idempotency_keys (
    account_id uuid NOT NULL REFERENCES accounts,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL,
    status_code smallint,
    response bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key)
);
"""

WEBHOOKS = """
CREATE TABLE events (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    type text NOT NULL,
    batch_id uuid,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_of_account ON events (account_id, id);

CREATE TABLE webhook_endpoints (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    url text NOT NULL,
    description text NOT NULL DEFAULT '',
    event_types text[] NOT NULL,
    -- enabled: events are delivered; disabled: none are (by its owner, a 410, or five days of failures)
    state text NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'disabled')),
    secret text NOT NULL,
    previous_secret text,
    previous_secret_until timestamptz,
    failing_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL))
);
CREATE INDEX webhook_endpoints_of_account ON webhook_endpoints (account_id, id);

CREATE TABLE deliveries (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    event_id uuid NOT NULL REFERENCES events,
    endpoint_id uuid REFERENCES webhook_endpoints ON DELETE CASCADE,
    url text NOT NULL,
    -- pending: the next attempt is due at next_attempt_at; delivered: a 2xx came; failed: given up
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    next_attempt_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    UNIQUE (event_id, endpoint_id)
);
CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE state = 'pending';

CREATE TABLE attempts (
    delivery_id uuid NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    number smallint NOT NULL CHECK (number >= 1),
    account_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    milliseconds int NOT NULL CHECK (milliseconds >= 0),
    status_code smallint,
    failure text,
    answer bytea,
    PRIMARY KEY (delivery_id, number)
);
"""

BILLING = """
-- An event of Stripe's, stored in the transaction that applies it: an id is applied once.
CREATE TABLE stripe_events (
    id text PRIMARY KEY,
    type text NOT NULL,
    created_at timestamptz NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Usage to be told to Stripe, one row an account, meter and hour, each sent under its own identifier.
CREATE TABLE meter_outbox (
    identifier text PRIMARY KEY CHECK (length(identifier) <= 100),
    account_id uuid NOT NULL REFERENCES accounts,
    meter text NOT NULL,
    hour timestamptz NOT NULL,
    tokens bigint NOT NULL CHECK (tokens > 0),
    sent_at timestamptz
);
CREATE INDEX meter_outbox_unsent ON meter_outbox (hour) WHERE sent_at IS NULL;
"""

ACCESS = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['quotas', 'reservations', 'idempotency_keys', 'events', 'webhook_endpoints',
                                'deliveries', 'attempts', 'meter_outbox'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_rows ON %I USING (account_id = (SELECT current_account()))', name);
    END LOOP;
END $$;
"""
