"""Stripe's events: each is stored and applied in one transaction, once, whatever the order in which they come."""

import logging

from sqlalchemy import text

from common import billed_plans, stripe_api, stripe_objects, stripe_registers
from common.database import as_owner
from common.errors import InvalidRequest

log = logging.getLogger(__name__)


def receive(body: bytes, signature: str) -> bool:
    """Takes in an event as Stripe posts it; False when it had come before. One of a type that nothing is known of is
    stored, and that is all. Raises Forged, InvalidRequest for one that cannot be read or is of the other kind of money,
    and Conflict where billing is off: of those nothing is stored."""
    told = stripe_objects.event(stripe_api.signed_event(body, signature))
    if told.livemode != stripe_api.is_live():
        kinds = ("live", "test") if told.livemode else ("test", "live")
        raise InvalidRequest(
            f"This is a {kinds[0]} event, and this installation has {kinds[1]} money: see BATCHYARD_ENV.",
            code="wrong_livemode",
        )
    stored = {"id": told.id, "type": told.type, "created_at": stripe_objects.moment(told.created)}
    with as_owner() as connection:
        # The same event at the same moment waits here, until the other is applied or has failed.
        if not connection.execute(_STORE, stored).rowcount:
            return False
        account_id = stripe_registers.note(connection, told)
        move = billed_plans.settle(connection, account_id) if account_id is not None else None
    log.info("an event of Stripe's was applied", extra={"event": told.id, "type": told.type})
    if move is not None:
        billed_plans.follow(move)
    return True


_STORE = text("""
    INSERT INTO stripe_events (id, type, created_at) VALUES (:id, :type, :created_at) ON CONFLICT (id) DO NOTHING
""")
