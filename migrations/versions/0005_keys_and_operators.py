"""What keys that rotate and operators that pause work need beside the tables: a rule and indexes."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(KEYS)
    op.execute(PAUSED)


KEYS = """
-- A key is taken over from once.
CREATE UNIQUE INDEX api_keys_replaced ON api_keys (replaces) WHERE replaces IS NOT NULL;
"""

# What the sweep looks after: few accounts are suspended, and few have paused batches.
PAUSED = """
CREATE INDEX accounts_suspended ON accounts (id) WHERE state = 'suspended';
CREATE INDEX batches_paused ON batches (paused_reason, account_id, id) WHERE state = 'paused';
"""
