"""People: who they are, the accounts that they are members of, their sessions, and what was mailed to them."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute(PEOPLE)
    op.execute(SESSIONS)
    op.execute(MAILED)
    op.execute(LOOK_UP)
    op.execute(ACCESS)


# The table of 0001 was never written.
PEOPLE = """
DROP TABLE users;

CREATE TABLE users (
    id uuid PRIMARY KEY,
    -- In small letters, which are not the same to every locale of a database: it refuses the capitals that all know.
    email text NOT NULL UNIQUE CHECK (email <> '' AND email !~ '[A-Z]'),
    -- Null for who has none, and comes by an identity provider.
    password_hash text,
    -- Counts up with the password and the address: what was mailed or begun before is then no longer good.
    credentials_version int NOT NULL DEFAULT 1,
    -- Nobody can log in before.
    email_verified_at timestamptz,
    -- What their account will be called, which is made when their address is verified.
    account_name text CHECK (account_name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (account_name IS NULL OR email_verified_at IS NULL)
);
CREATE INDEX users_unproven ON users (created_at) WHERE email_verified_at IS NULL;

-- owner: may do everything (common/roles.py says what the others may). One who left has removed_at, and may come back.
CREATE TABLE members (
    account_id uuid NOT NULL REFERENCES accounts,
    user_id uuid NOT NULL REFERENCES users,
    role text NOT NULL CHECK (role IN ('owner', 'developer', 'billing')),
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX members_of_user ON members (user_id) WHERE removed_at IS NULL;
"""

SESSIONS = """
-- There from log-in to log-out: without its row a session is over, whatever its holder still has.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users,
    -- The account that its person works in; null where they are a member of none.
    account_id uuid REFERENCES accounts,
    -- Of its cookie; null for a session of the JSON API, which has refresh tokens.
    page_hash bytea UNIQUE CHECK (octet_length(page_hash) = 32),
    -- Where it was begun from.
    address text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CHECK (created_at < expires_at)
);
CREATE INDEX sessions_of_user ON sessions (user_id, id);
CREATE INDEX sessions_over ON sessions (expires_at);

-- Each is used once, for the next one; those that were used stay as long as their session, to be known again.
CREATE TABLE refresh_tokens (
    hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- A session has one that is good.
CREATE UNIQUE INDEX refresh_tokens_good ON refresh_tokens (session_id) WHERE used_at IS NULL;
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id);
"""

MAILED = """
-- The tokens of links in mails, each used once. What one is for and whom it is about, it says itself, signed.
CREATE TABLE mailed_tokens (
    id uuid PRIMARY KEY,
    -- Of those that an account's member asked for.
    account_id uuid REFERENCES accounts,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX mailed_tokens_over ON mailed_tokens (expires_at);

-- pending until it is accepted, revoked, or over. Its link's token has its id.
CREATE TABLE invitations (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    email text NOT NULL CHECK (email <> '' AND email !~ '[A-Z]'),
    role text NOT NULL CHECK (role IN ('owner', 'developer', 'billing')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at timestamptz,
    CHECK (accepted_at IS NULL OR revoked_at IS NULL)
);
CREATE INDEX invitations_of_account ON invitations (account_id, id);
CREATE INDEX invitations_over ON invitations (expires_at);
CREATE UNIQUE INDEX invitations_pending ON invitations (account_id, email)
    WHERE accepted_at IS NULL AND revoked_at IS NULL;
"""

# A session may be of any person and account, and is known before either is: the look-up of one runs with the owner's
# rights. Membership is looked at each time, so that another role and a removal hold at once.
LOOK_UP = """
CREATE FUNCTION person_in(wanted_user uuid, wanted_account uuid)
RETURNS TABLE (user_id uuid, email text, email_verified boolean, account_id uuid, role text, plan text, state text,
    overrides jsonb, hard_cap bigint, period_start timestamptz, period_end timestamptz, accounts jsonb)
STABLE LANGUAGE sql AS
$$
    SELECT u.id, u.email, u.email_verified_at IS NOT NULL, m.account_id, m.role, a.plan, a.state, a.overrides,
        a.hard_cap, p.period_start, p.period_end, (
            SELECT coalesce(jsonb_agg(jsonb_build_object('id', o.account_id, 'name', n.name, 'role', o.role)
                ORDER BY o.created_at, o.account_id), '[]')
            FROM members o JOIN accounts n ON n.id = o.account_id
            WHERE o.user_id = u.id AND o.removed_at IS NULL)
    FROM users u
    LEFT JOIN members m ON m.user_id = u.id AND m.account_id = wanted_account AND m.removed_at IS NULL
    LEFT JOIN accounts a ON a.id = m.account_id
    LEFT JOIN LATERAL billing_period(a.billing_anchor, now()) AS p ON a.id IS NOT NULL
    WHERE u.id = wanted_user
$$;

-- By the id that an access token names, or by the hash of a page's cookie.
CREATE FUNCTION find_session(wanted uuid, wanted_page bytea)
RETURNS TABLE (session_id uuid, chosen_account uuid, user_id uuid, email text, email_verified boolean, account_id uuid,
    role text, plan text, state text, overrides jsonb, hard_cap bigint, period_start timestamptz,
    period_end timestamptz, accounts jsonb)
STABLE SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    SELECT s.id, s.account_id, p.*
    FROM sessions s CROSS JOIN LATERAL person_in(s.user_id, s.account_id) AS p
    WHERE (s.id = wanted OR s.page_hash = wanted_page) AND s.expires_at > now()
$$;
REVOKE EXECUTE ON FUNCTION find_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_session TO batchyard_web;
"""

# Sessions and what proves who somebody is are the owner's: before log-in there is no account. Of people the web sees
# the addresses of its own account's members.
ACCESS = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['members', 'sessions', 'mailed_tokens', 'invitations'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_rows ON %I USING (account_id = (SELECT current_account()))', name);
    END LOOP;
END $$;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_members ON users USING (id IN (
    SELECT m.user_id FROM members m WHERE m.account_id = (SELECT current_account()) AND m.removed_at IS NULL));
ALTER TABLE refresh_tokens ENABLE ROW LEVEL SECURITY;

GRANT SELECT (id, email) ON users TO batchyard_web;
GRANT SELECT, UPDATE (role, removed_at) ON members TO batchyard_web;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON invitations TO batchyard_web;
GRANT INSERT ON mailed_tokens TO batchyard_web;
"""
