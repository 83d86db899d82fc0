"""In whose name a view acts on keys and accounts, for what it may do and for the audit log."""

from common import ids
from common.audit import Actor
from web import auth
from web.auth import caller


def in_own_account() -> Actor:
    """The caller, a key or a person, within their own account."""
    found = caller()
    if found.is_person:
        return auth.person().actor
    return Actor(ids.show("key_", found.key_id), found.account_id, found.scopes)


def operator() -> Actor:
    """The caller's key as an operator's: for views that require the scope admin, and no others."""
    return Actor(ids.show("key_", caller().key_id))
