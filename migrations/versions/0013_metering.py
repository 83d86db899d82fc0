"""Metering: what Stripe is to be told of the tokens that were used, and what it was told."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute(OUTBOX)
    op.execute(UNCHANGED)
    op.execute(ACCESS)


# The table of 0002 was never written.
OUTBOX = """
DROP TABLE meter_outbox;

-- Tokens of an account in one hour of its receipts, told to Stripe as one meter event. An hour has more than one
-- portion where a billing period ends in it, and where receipts came after it had been told.
CREATE TABLE meter_outbox (
    -- Under which Stripe takes it once: it refuses another with the same for at least 24 hours.
    identifier text PRIMARY KEY CHECK (length(identifier) BETWEEN 1 AND 100),
    account_id uuid NOT NULL REFERENCES accounts,
    -- Stripe's id of the customer that it is told of.
    customer text NOT NULL,
    meter text NOT NULL,
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    portion int NOT NULL CHECK (portion >= 1),
    -- The time that Stripe is told: it says which billing period the tokens are billed in.
    used_at timestamptz NOT NULL CHECK (used_at >= hour AND used_at < hour + interval '1 hour'),
    tokens bigint NOT NULL CHECK (tokens > 0),
    -- pending: to be sent at next_attempt_at (the sender that claims it moves it on)
    -- sending: an attempt is under way until lease_until (its record moves it on, or the next look after the lease)
    -- delivered: Stripe has it
    -- in_doubt: an attempt of unknown outcome is so old that a repetition could count twice (Stripe's own sums tell)
    -- failed: Stripe refused it (an operator sends it again once the reason is gone)
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'sending', 'delivered', 'in_doubt', 'failed')),
    -- Attempts ever begun: whoever records one names it, so that one who is late records nothing.
    attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz DEFAULT clock_timestamp(),
    lease_until timestamptz,
    -- When the last attempt began, and when the first that Stripe may have taken without our knowing.
    attempted_at timestamptz,
    doubtful_since timestamptz,
    -- Why the last attempt did not deliver it.
    problem text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    UNIQUE (account_id, meter, hour, portion),
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
    CHECK (state <> 'in_doubt' OR doubtful_since IS NOT NULL),
    CHECK ((attempts > 0) = (attempted_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX meter_outbox_open ON meter_outbox (state, account_id, hour, portion) WHERE state <> 'delivered';

-- One row: when all of Stripe's window was last looked through, and when the operator was last mailed.
CREATE TABLE metering (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    looked_back_at timestamptz,
    alarmed_at timestamptz
);
INSERT INTO metering DEFAULT VALUES;
"""

# An identifier that was sent with two values would be billed with either of them.
UNCHANGED = """
CREATE FUNCTION refuse_another_meter_event() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    RAISE EXCEPTION 'what % tells Stripe never changes', OLD.identifier
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER tokens_never_change AFTER UPDATE ON meter_outbox FOR EACH ROW
    WHEN ((NEW.identifier, NEW.account_id, NEW.customer, NEW.meter, NEW.hour, NEW.portion, NEW.used_at, NEW.tokens)
        IS DISTINCT FROM
        (OLD.identifier, OLD.account_id, OLD.customer, OLD.meter, OLD.hour, OLD.portion, OLD.used_at, OLD.tokens))
    EXECUTE FUNCTION refuse_another_meter_event();
"""

# Operators and their processes alone have to do with it.
ACCESS = """
ALTER TABLE meter_outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON meter_outbox USING (account_id = (SELECT current_account()));
"""
