"""What customers ask about themselves: how many of their jobs run now, and their usage by day."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute(RUNNING)
    op.execute(DAYS)


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

# The planner then knows how few days there are, and sums receipts by day in parallel and in memory.
DAYS = """
CREATE STATISTICS usage_records_days ON ((created_at AT TIME ZONE 'UTC')::date) FROM usage_records;
"""
