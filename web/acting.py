"""In whose name a view acts on keys and accounts, for what it may do and for the audit log."""

from common import ids
from common.audit import Actor
from web.auth import caller


def own_key() -> Actor:
    """The caller's key, within its own account."""
    found = caller()
    return Actor(ids.show("key_", found.key_id), found.account_id, found.scopes)


def operator() -> Actor:
    """The caller's key as an operator's: for views that require the scope admin, and no others."""
    return Actor(ids.show("key_", caller().key_id))
