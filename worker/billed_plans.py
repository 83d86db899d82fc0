"""For the sweep: plans that end with time, and open batches that a crash has left on the plan before."""

import logging

from common import billed_plans

log = logging.getLogger(__name__)


def settle() -> None:
    """One pass."""
    for move in billed_plans.settle_due():
        log.info("a grace or a subscription is over", extra={"account": str(move.account_id), "plan": move.plan})
    # Those that were just settled are among them.
    for move in billed_plans.unfinished_moves():
        billed_plans.follow(move)
