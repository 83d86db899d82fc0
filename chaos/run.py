"""One run: all jobs submitted and ended, disturbed or not."""

import sys
import time
from dataclasses import dataclass
from typing import Any

from chaos.bookkeeper import Bookkeeper
from chaos.customers import Accepted, Customers
from chaos.disturbances import Disturbances, Exposed
from chaos.outages import Outages
from chaos.parts import parts
from chaos.rig import Rig
from chaos.sizes import Sizes

LOOK_SECONDS = 0.1
TELL_SECONDS = 10.0
# What the provider asks for with its random refusals. All calls heed it, so that a second would be an outage each time.
RETRY_AFTER_SECONDS = 0.05
# Of all jobs, this share is submitted ahead of the work: the rest comes while it goes on, and with it what is broken.
AHEAD_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Run:
    """What was accepted, how long it took until all of it had ended, and what was done to it meanwhile."""

    seconds: float
    outage_seconds: float
    accepted: Accepted
    done: dict[str, int]
    left: int
    exposed: Exposed


class Overdue(Exception):
    """The work did not end in the time that a run may take."""


def tell(line: str) -> None:
    """A line for the person who waits; the table alone goes to stdout."""
    print(line, file=sys.stderr, flush=True)


def undisturbed(rig: Rig, sizes: Sizes) -> Run:
    rig.set_provider(latency=sizes.latency_ms / 1_000)
    return _run(rig, sizes, None)


def disturbed(rig: Rig, sizes: Sizes) -> Run:
    latency = sizes.latency_ms / 1_000
    rig.set_provider(latency=latency, seed=sizes.seed, retry_after=RETRY_AFTER_SECONDS, faults=_faults(sizes))
    rig.stripe.admin("PUT", "settings", faults=_stripe_faults(sizes))
    return _run(rig, sizes, Disturbances(rig, sizes))


def _faults(sizes: Sizes) -> list[dict[str, Any]]:
    """Half of what the provider fails is a 500; the rest is overload, and connections broken before or in answers."""
    share = sizes.failing_percent / 100
    return [
        {"fault": "500", "probability": share / 2},
        {"fault": "503", "probability": share / 4},
        {"fault": "reset", "probability": share / 8},
        {"fault": "drop", "probability": share / 8},
        {"fault": "429", "probability": sizes.refusing_percent / 100},
    ]


def _stripe_faults(sizes: Sizes) -> list[dict[str, Any]]:
    """Of half of the meter events that fail, nobody is told that Stripe took them."""
    share = sizes.stripe_failing_percent / 100
    parts = {"error": 4, "drop": 8, "rate_limit": 8, "error_after": 4, "drop_after": 4}
    return [
        {"fault": fault, "share": share / part, "path": "/v1/billing/meter_events"} for fault, part in parts.items()
    ]


def _run(rig: Rig, sizes: Sizes, disturbances: Disturbances | None) -> Run:
    answered = 0

    def may_send(submitted_before: int) -> bool:
        return submitted_before <= answered + AHEAD_SHARE * sizes.jobs

    customers = Customers(rig.stack.base_url, rig.keys, parts(sizes), sizes.seed, may_send)
    outages = Outages(rig)
    began = told = time.monotonic()
    customers.start()
    bookkeeper = Bookkeeper()
    bookkeeper.start()
    try:
        while customers.busy or not _all_ended(rig):
            now = time.monotonic()
            if now - began > sizes.most_seconds:
                raise Overdue(f"after {sizes.most_seconds} s not all jobs have ended; {answered:,} were answered")
            rig.stack.tend()
            outages.look()
            answered = rig.answered()
            if disturbances is not None and (what := disturbances.step(answered / sizes.jobs)) is not None:
                tell(f"  {now - began:6.1f} s: {what}")
            if now - told > TELL_SECONDS:
                told = now
                tell(f"  {now - began:6.1f} s: {answered:,} jobs answered")
            # Between two looks at processes that tell nobody.
            time.sleep(LOOK_SECONDS)
        ended = time.monotonic()
    finally:
        customers.give_up()
        bookkeeper.end()
    return Run(
        seconds=ended - began,
        outage_seconds=outages.seconds,
        accepted=customers.accepted,
        done=disturbances.done if disturbances is not None else {},
        left=disturbances.left if disturbances is not None else 0,
        exposed=disturbances.exposed if disturbances is not None else Exposed(),
    )


def _all_ended(rig: Rig) -> bool:
    """Whether no batch is open."""
    return rig.postgres_answers() and rig.query(_OPEN) == [(0,)]


_OPEN = "SELECT count(*) FROM batches WHERE ended_at IS NULL"
