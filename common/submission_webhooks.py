"""The URLs that jobs and batches name to be told at: each is an endpoint of its account, of the origin `submission`."""

from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from sqlalchemy import text

from common import ids, webhook_secrets, webhook_urls
from common.database import as_account, read_account
from common.errors import Conflict


@dataclass(frozen=True, slots=True)
class Webhook:
    """The URL that a job or batch names, and the events that it is told of; None: those that end it."""

    url: str
    events: list[str] | None = None


def for_url(account_id: UUID, url: str) -> None:
    """Makes the endpoint of a URL that a job or batch names, where there is none: before the job or batch is stored, so
    that none has an event that could not be delivered. It is signed with the account's secret. Raises InvalidRequest
    for a URL that no webhook may go to, and Conflict for one that is disabled."""
    webhook_urls.check(url, "webhook_url")
    found = read_account(account_id, _FIND, {"account_id": account_id, "url": url})
    if not found:
        _make(account_id, url)
    elif found[0]["state"] == "disabled":
        shown_id = ids.show("we_", found[0]["id"])
        raise Conflict(
            f"Webhooks to this URL are disabled ({found[0]['disabled_reason']}): name another, leave it out, or enable"
            f" it with POST /v1/webhook_endpoints/{shown_id}/enable.",
            param="webhook_url",
            code="webhook_endpoint_disabled",
        )


def _make(account_id: UUID, url: str) -> None:
    secret = webhook_secrets.seal(webhook_secrets.new())
    with as_account(account_id) as connection:
        # Whoever comes at the same time may make either: there is one of each.
        connection.execute(_MAKE_SECRET, {"account_id": account_id, "secret": secret})
        connection.execute(_MAKE, {"id": ids.new_id(), "account_id": account_id, "url": url})


_FIND: LiteralString = """
    SELECT id, state, disabled_reason FROM webhook_endpoints
    WHERE account_id = %(account_id)s AND url = %(url)s AND origin = 'submission'
        AND disabled_reason IS DISTINCT FROM 'deleted'
"""

_MAKE_SECRET = text("""
    INSERT INTO webhook_secrets (account_id, secret) VALUES (:account_id, :secret) ON CONFLICT DO NOTHING
""")

_MAKE = text("""
    INSERT INTO webhook_endpoints (id, account_id, url, origin) VALUES (:id, :account_id, :url, 'submission')
    ON CONFLICT DO NOTHING
""")
