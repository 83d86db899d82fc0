"""What Stripe was told, compared with the receipts of the run."""

import time
from typing import Any, LiteralString

from chaos.figures import Figure, exactly, none
from chaos.rig import Rig
from chaos.run import Overdue, tell
from common import meter_outbox, metering

# What a killed deliverer was sending is sent again after its lease; pauses between attempts grow to minutes.
DELIVERED_SECONDS = 300
LOOK_SECONDS = 0.5


def metered(rig: Rig) -> list[Figure]:
    """Every token is told once. The stand-in goes on failing until all is delivered."""
    while metering.roll_up(running_hour=True) is None:
        # Another process is at it.
        time.sleep(LOOK_SECONDS)
    _deliver_all(rig)
    # What compares is not to fail at what it asks.
    rig.stripe.admin("PUT", "settings")
    sent = rig.stripe.admin("GET", "meter_events")
    identifiers = sent["identifiers"].values()
    receipts = {customer: int(tokens) for customer, tokens in rig.query(_RECEIPTS)}
    return [
        Figure("tokens of receipts", sum(receipts.values())),
        exactly("tokens at Stripe", sum(sent["totals"].values()), sum(receipts.values())),
        none("accounts whose tokens at Stripe are not those of their receipts", _differing(receipts, sent["totals"])),
        Figure("meter events", len(identifiers)),
        Figure("attempts to send them", sum(one["attempts"] for one in identifiers)),
        Figure("of these lost to us and refused as repeated", sum(map(_repeated, identifiers))),
        none("identifiers sent with two values", sum(len(one["values"]) != 1 for one in identifiers)),
        none("identifiers counted more than once", sum(one["counted"] > 1 for one in identifiers)),
        none("exit status of `billing reconcile`", rig.command("billing", "reconcile", "--now", "--hours")),
    ]


def _deliver_all(rig: Rig) -> None:
    deadline = time.monotonic() + DELIVERED_SECONDS
    while left := rig.query(_OPEN)[0][0]:
        if time.monotonic() > deadline:
            raise Overdue(f"{left} meter events were not delivered in {DELIVERED_SECONDS} s")
        meter_outbox.make_due()
        rig.stack.tend()
        # Until deliverers have sent what is due.
        time.sleep(LOOK_SECONDS)
    tell("every meter event is delivered")


def _repeated(event: dict[str, Any]) -> int:
    """By the sentence with which the stand-in refuses an identifier that it has."""
    return sum(times for outcome, times in event["outcomes"].items() if "already exists" in outcome)


def _differing(receipts: dict[str, int], totals: dict[str, int]) -> int:
    return sum(receipts.get(customer, 0) != totals.get(customer, 0) for customer in receipts | totals)


_RECEIPTS: LiteralString = """
    SELECT a.stripe_customer_id, sum(u.prompt_tokens + u.completion_tokens)
    FROM usage_records u JOIN accounts a ON a.id = u.account_id WHERE a.stripe_customer_id IS NOT NULL GROUP BY 1
"""

_OPEN: LiteralString = "SELECT count(*) FROM meter_outbox WHERE state <> 'delivered'"
