"""Mails, and whom the operator's identity provider knows."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute(MAILS)
    op.execute(IDENTITIES)


MAILS = """
CREATE TABLE mails (
    id uuid PRIMARY KEY,
    recipient text NOT NULL CHECK (recipient ~ '^[^[:cntrl:][:space:]<>]+@[^[:cntrl:][:space:]<>@]+$'),
    template text NOT NULL,
    -- What it says, encrypted under SECRET_KEY; erased when it ends, for a link in it is as good as a password.
    sealed bytea,
    -- pending: the next attempt is due at next_attempt_at (the mailer that claims it moves it on)
    -- sending: an attempt is under way until lease_until (its record moves it on, or a mailer's look after the lease)
    -- sent: the mail server took it
    -- failed: refused for good, or not taken within a day
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'sent', 'failed')),
    -- Attempts ever begun, by which a stale mailer is told, and of them those whose process died.
    attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    deaths smallint NOT NULL DEFAULT 0 CHECK (deaths BETWEEN 0 AND attempts),
    next_attempt_at timestamptz DEFAULT now(),
    lease_until timestamptz,
    -- What went wrong with the last attempt, named, and what the mail server said.
    failure text,
    answer text,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('sent', 'failed')) = (ended_at IS NOT NULL)),
    CHECK ((sealed IS NULL) = (ended_at IS NOT NULL)),
    CHECK (state <> 'failed' OR failure IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX mails_due ON mails (next_attempt_at) WHERE state = 'pending';
CREATE INDEX mails_sending ON mails (lease_until) WHERE state = 'sending';
CREATE INDEX mails_ended ON mails (ended_at) WHERE ended_at IS NOT NULL;

-- The web writes mails and can read, change or end none.
GRANT INSERT (id, recipient, template, sealed) ON mails TO batchyard_web;
"""

# Before a token of the provider is looked up no account is set, as with sessions (0010).
IDENTITIES = """
CREATE TABLE identities (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_of_user ON identities (user_id);

-- The person, in the account that they want or the first that they joined.
CREATE FUNCTION find_identity(wanted_issuer text, wanted_subject text, wanted_account uuid)
RETURNS TABLE (user_id uuid, email text, email_verified boolean, account_id uuid, role text, plan text, state text,
    overrides jsonb, hard_cap bigint, period_start timestamptz, period_end timestamptz, accounts jsonb)
STABLE SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    SELECT p.* FROM identities i CROSS JOIN LATERAL person_in(i.user_id, coalesce(wanted_account, (
        SELECT m.account_id FROM members m WHERE m.user_id = i.user_id AND m.removed_at IS NULL
        ORDER BY m.created_at, m.account_id LIMIT 1))) AS p
    WHERE i.issuer = wanted_issuer AND i.subject = wanted_subject
$$;
REVOKE EXECUTE ON FUNCTION find_identity FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_identity TO batchyard_web;
"""
