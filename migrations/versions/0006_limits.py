"""How many jobs of an account run now, for its customer to see."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute(RUNNING)


# Claims are the workers': of them the web learns this number alone, and of its own account.
RUNNING = """
CREATE FUNCTION running_jobs() RETURNS bigint
STABLE SECURITY DEFINER SET search_path = public LANGUAGE sql AS
$$
    SELECT coalesce(sum(pending), 0)::bigint FROM claims WHERE account_id = current_account() AND state = 'leased'
$$;
REVOKE EXECUTE ON FUNCTION running_jobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION running_jobs TO batchyard_web;
"""
