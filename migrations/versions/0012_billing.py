"""Billing: what Stripe told of customers, subscriptions and invoices, and what follows from it for their accounts."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute(ACCOUNTS)
    op.execute(TOLD)
    op.execute(ACCESS)


ACCOUNTS = """
ALTER TABLE accounts
    -- Who pays for it, made on first need.
    ADD COLUMN stripe_customer_id text UNIQUE,
    -- The plan that its subscriptions last gave it; null until one has begun. What an operator sets stands until this
    -- changes.
    ADD COLUMN billed_plan text,
    -- Until when its plan stays although a payment has failed; null where none has.
    ADD COLUMN grace_until timestamptz,
    -- When time alone changes its plan; the sweep looks then.
    ADD COLUMN billing_due_at timestamptz,
    -- Receipts from here on are told to Stripe: the beginning of its first subscription.
    ADD COLUMN metered_from timestamptz,
    -- The checkout that was opened last, and how many were.
    ADD COLUMN checkout_session text,
    ADD COLUMN checkouts int NOT NULL DEFAULT 0 CHECK (checkouts >= 0),
    -- Its open batches may be on another plan's queue: the sweep moves them.
    ADD COLUMN moving boolean NOT NULL DEFAULT false;
CREATE INDEX accounts_billing_due ON accounts (billing_due_at) WHERE billing_due_at IS NOT NULL;
CREATE INDEX accounts_moving ON accounts (id) WHERE moving;
"""

# Each object of Stripe's is what the greatest version says that was ever told of it: so it does not matter in which
# order, and how often, it is told. A version is (ended, told_at, rank, told_by), as common/stripe_objects.py makes it.
# The account is null as long as nothing has said whose the customer is.
TOLD = """
CREATE TABLE stripe_customers (
    id text PRIMARY KEY,
    account_id uuid REFERENCES accounts,
    -- Stripe makes no customer again that was deleted.
    deleted boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stripe_customers_of_account ON stripe_customers (account_id);

CREATE TABLE stripe_subscriptions (
    id text PRIMARY KEY,
    customer text NOT NULL REFERENCES stripe_customers,
    account_id uuid REFERENCES accounts,
    -- Stripe's own words; an unknown one gives no plan.
    status text NOT NULL,
    -- The plan that its price is of; null where the price is not one of ours. And whether it ever was.
    plan text,
    ours boolean NOT NULL DEFAULT false,
    -- Cents a period, before what is metered.
    amount bigint CHECK (amount >= 0),
    currency text,
    period_start timestamptz,
    period_end timestamptz,
    started_at timestamptz NOT NULL,
    -- When it is to end, if it is.
    cancel_at timestamptz,
    ended boolean NOT NULL,
    told_at timestamptz NOT NULL,
    rank smallint NOT NULL,
    told_by text COLLATE "C" NOT NULL
);
CREATE INDEX stripe_subscriptions_of_customer ON stripe_subscriptions (customer);
CREATE INDEX stripe_subscriptions_of_account ON stripe_subscriptions (account_id);

CREATE TABLE stripe_invoices (
    id text PRIMARY KEY,
    customer text NOT NULL REFERENCES stripe_customers,
    account_id uuid REFERENCES accounts,
    subscription text,
    status text NOT NULL,
    -- Cents.
    amount_due bigint NOT NULL,
    created_at timestamptz NOT NULL,
    -- When its payment first failed, whatever came after; null where none has.
    failed_at timestamptz,
    ended boolean NOT NULL,
    told_at timestamptz NOT NULL,
    rank smallint NOT NULL,
    told_by text COLLATE "C" NOT NULL
);
CREATE INDEX stripe_invoices_of_customer ON stripe_invoices (customer);
CREATE INDEX stripe_invoices_of_account ON stripe_invoices (account_id);

-- Moments at which a period of a subscription began or ended: what is metered is cut there, so that each period pays
-- for its own tokens.
CREATE TABLE stripe_boundaries (
    customer text NOT NULL REFERENCES stripe_customers,
    at timestamptz NOT NULL,
    account_id uuid REFERENCES accounts,
    PRIMARY KEY (customer, at)
);
CREATE INDEX stripe_boundaries_of_account ON stripe_boundaries (account_id, at);
"""

# Events are applied as the owner, since nobody is the caller of them. The web reads its account's own.
ACCESS = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['stripe_customers', 'stripe_subscriptions', 'stripe_invoices', 'stripe_boundaries'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_rows ON %I USING (account_id = (SELECT current_account()))', name);
    END LOOP;
END $$;
GRANT SELECT ON stripe_customers, stripe_subscriptions, stripe_invoices TO batchyard_web;
GRANT INSERT ON stripe_customers TO batchyard_web;
GRANT UPDATE (stripe_customer_id, checkout_session, checkouts) ON accounts TO batchyard_web;
"""
