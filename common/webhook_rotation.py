"""Another secret in the place of one that signs, an endpoint's or the account's: for an overlap both sign."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from common import audit, webhook_endpoints, webhook_secrets
from common.audit import Actor
from common.errors import Conflict, InvalidRequest
from common.webhook_endpoints import NewSecret

MAX_OVERLAP = timedelta(days=7)
DEFAULT_OVERLAP = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NewAccountSecret:
    """A secret that was just made for URLs that jobs and batches name: nothing shows it again.
    `previous_secret_until` is until when the one before signs, None where none does."""

    secret: str
    created_at: datetime
    previous_secret_until: datetime | None


def of_endpoint(actor: Actor, account_id: UUID, endpoint_id: str, overlap: timedelta) -> NewSecret:
    """A new secret of an endpoint; for `overlap` the one before signs too. Raises NotFound, InvalidRequest for an
    overlap that is too long, and Conflict for an endpoint of jobs and batches or while one before still signs."""
    secret = webhook_secrets.new()
    with actor.transaction() as connection:
        before = webhook_endpoints.found(connection, account_id, endpoint_id, locked=True)
        if before.origin == "submission":
            raise Conflict(
                "The account's own secret signs for URLs that jobs and batches name: POST /v1/webhook_secret/rotate.",
                param="endpoint_id",
            )
        _check(overlap, before.previous_secret_until)
        parameters = {"account_id": account_id, "id": before.id} | _values(secret, overlap)
        connection.execute(_ROTATE_OF_ENDPOINT, parameters)
        rotated = webhook_endpoints.found(connection, account_id, endpoint_id)
        audit.record(
            connection, actor, "webhook_endpoint.rotate_secret", account_id,
            endpoint=before.shown_id, overlap_seconds=int(overlap.total_seconds()),
        )  # fmt: skip
    return NewSecret(rotated, secret)


def of_account(actor: Actor, account_id: UUID, overlap: timedelta) -> NewAccountSecret:
    """A new secret of the account, which may be its first; for `overlap` the one before signs too. Raises
    InvalidRequest for an overlap that is too long, and Conflict while one before still signs."""
    secret = webhook_secrets.new()
    parameters = {"account_id": account_id} | _values(secret, overlap)
    with actor.transaction() as connection:
        row = connection.execute(_INSERT_OF_ACCOUNT, parameters).one_or_none()
        before = connection.execute(_LOCK_OF_ACCOUNT, parameters).one()
        _check(overlap, before.previous_secret_until)
        if row is None:
            row = connection.execute(_ROTATE_OF_ACCOUNT, parameters).one()
        audit.record(
            connection, actor, "webhook_secret.rotate", account_id, overlap_seconds=int(overlap.total_seconds())
        )
    return NewAccountSecret(secret, **row._mapping)


def _check(overlap: timedelta, previous_until: datetime | None) -> None:
    """A receiver may go by the secret before: it is never ended early without a word."""
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        seconds = int(MAX_OVERLAP.total_seconds())
        raise InvalidRequest(f"overlap_seconds is from 0 to {seconds:,}.", param="overlap_seconds")
    if previous_until is not None and overlap:
        raise Conflict(
            f"It was rotated already, and the secret before signs until {previous_until:%Y-%m-%dT%H:%M:%SZ}: wait for"
            " that, or send overlap_seconds 0, which ends every secret but the new one now.",
            param="overlap_seconds",
            code="rotation_under_way",
        )


def _values(secret: str, overlap: timedelta) -> dict[str, object]:
    return {"secret": webhook_secrets.seal(secret), "overlap": overlap if overlap else None}


_SET = """
    SET secret = :secret, previous_secret = CASE WHEN CAST(:overlap AS interval) IS NOT NULL THEN secret END,
        previous_secret_until = now() + CAST(:overlap AS interval)
"""
_ROTATE_OF_ENDPOINT = text(f"UPDATE webhook_endpoints {_SET} WHERE account_id = :account_id AND id = :id")
_OF_ACCOUNT = """
    created_at, CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until
"""
_INSERT_OF_ACCOUNT = text(f"""
    INSERT INTO webhook_secrets (account_id, secret) VALUES (:account_id, :secret)
    ON CONFLICT (account_id) DO NOTHING RETURNING {_OF_ACCOUNT}
""")
_LOCK_OF_ACCOUNT = text(f"SELECT {_OF_ACCOUNT} FROM webhook_secrets WHERE account_id = :account_id FOR NO KEY UPDATE")
_ROTATE_OF_ACCOUNT = text(f"""
    UPDATE webhook_secrets {_SET}, created_at = now() WHERE account_id = :account_id RETURNING {_OF_ACCOUNT}
""")
