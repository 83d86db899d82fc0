"""The secret of an account, which signs for the URLs that jobs and batches name."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from common import audit, webhook_rotation, webhook_secrets
from common.audit import Actor


@dataclass(frozen=True, slots=True)
class AccountSecret:
    """What may be shown of it: since when it signs, and until when the one before does, None where none does."""

    created_at: datetime
    previous_secret_until: datetime | None


@dataclass(frozen=True, slots=True)
class NewAccountSecret:
    """One that was just made: nothing shows `secret` again."""

    found: AccountSecret
    secret: str


def rotate(actor: Actor, account_id: UUID, overlap: timedelta) -> NewAccountSecret:
    """A new secret, which may be the account's first; for `overlap` the one before signs too. Raises InvalidRequest for
    an overlap that is too long, and Conflict while the secret before the current one still signs."""
    secret = webhook_secrets.new()
    parameters = {"account_id": account_id, "secret": webhook_secrets.seal(secret)}
    webhook_rotation.check(overlap, None)
    with actor.transaction() as connection:
        row = connection.execute(_INSERT, parameters).one_or_none()
        if row is None:
            before = connection.execute(_LOCK, {"account_id": account_id}).one()
            webhook_rotation.check(overlap, before.previous_secret_until)
            row = connection.execute(_ROTATE, parameters | {"overlap": overlap if overlap else None}).one()
        audit.record(
            connection, actor, "webhook_secret.rotate", account_id, overlap_seconds=int(overlap.total_seconds())
        )
    return NewAccountSecret(AccountSecret(**row._mapping), secret)


_COLUMNS = """
    created_at, CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until
"""
_INSERT = text(f"""
    INSERT INTO webhook_secrets (account_id, secret) VALUES (:account_id, :secret)
    ON CONFLICT (account_id) DO NOTHING RETURNING {_COLUMNS}
""")
_LOCK = text(f"SELECT {_COLUMNS} FROM webhook_secrets WHERE account_id = :account_id FOR NO KEY UPDATE")
_ROTATE = text(f"""
    UPDATE webhook_secrets SET secret = :secret, created_at = now(),
        previous_secret = CASE WHEN CAST(:overlap AS interval) IS NOT NULL THEN secret END,
        previous_secret_until = now() + CAST(:overlap AS interval)
    WHERE account_id = :account_id RETURNING {_COLUMNS}
""")
