"""What people leave behind: sessions and tokens that are over, invitations of long ago, and sign-ups that nobody
proved."""

from datetime import timedelta

from sqlalchemy import text

from common.database import owner_engine

ROWS_PER_STEP = 5_000
STEPS_PER_PASS = 20
INVITATIONS_KEPT = timedelta(days=90)
# Longer than any link to it is good.
UNPROVEN_KEPT = timedelta(days=30)


def delete_what_is_over() -> None:
    """One pass. May be run twice, and by several at once."""
    kept = {"limit": ROWS_PER_STEP, "invitations": INVITATIONS_KEPT, "unproven": UNPROVEN_KEPT}
    for statement in (_SESSIONS, _MAILED_TOKENS, _INVITATIONS, _UNPROVEN_USERS):
        for _ in range(STEPS_PER_PASS):
            with owner_engine().begin() as connection:
                if connection.execute(statement, kept).rowcount < ROWS_PER_STEP:
                    break


# Refresh tokens go with them.
_SESSIONS = text("""
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE expires_at <= now() ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
""")
# One that was used stays until it would be over anyway: until then its signature is good.
_MAILED_TOKENS = text("""
    DELETE FROM mailed_tokens WHERE id IN (
        SELECT id FROM mailed_tokens WHERE expires_at <= now() ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
""")
_INVITATIONS = text("""
    DELETE FROM invitations WHERE id IN (
        SELECT id FROM invitations WHERE expires_at <= now() - CAST(:invitations AS interval)
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
""")
_UNPROVEN_USERS = text("""
    DELETE FROM users WHERE id IN (
        SELECT id FROM users WHERE email_verified_at IS NULL AND created_at <= now() - CAST(:unproven AS interval)
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED)
""")
