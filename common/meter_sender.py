"""Sending what waits in the outbox: many accounts at once, one event of each, and no faster than Stripe takes them."""

import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from common import meter_outbox, stripe_api, stripe_meters
from common.meter_outbox import LEASE_MARGIN_SECONDS, LEASE_SECONDS, Came, Outcome, Portion
from common.settings import settings

IN_FLIGHT = 16


def send_due(ended: threading.Event | None = None) -> Counter[Came]:
    """Sends all that is due, until nothing is or the event comes; what is under way then is finished. Returns how many
    attempts came to what. May be run by several processes at once."""
    # Raises where nothing is sold, before anything is claimed.
    stripe_api.client()
    came: Counter[Came] = Counter()
    pace = _Pace(settings().meter_events_per_second)
    running: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(max_workers=IN_FLIGHT, thread_name_prefix="meter-events") as senders:
        while True:
            if ended is None or not ended.is_set():
                # By the wall's clock, which goes on while a machine sleeps.
                latest = time.time() + LEASE_SECONDS - LEASE_MARGIN_SECONDS
                claimed = meter_outbox.claim(IN_FLIGHT - len(running))
                running |= {senders.submit(_send, portion, pace, latest) for portion in claimed}
            if not running:
                return came
            done, running = wait(running, return_when=FIRST_COMPLETED)
            outcomes = [attempt.result() for attempt in done]
            meter_outbox.record(outcomes)
            came.update(outcome.came for outcome in outcomes)


def _send(portion: Portion, pace: "_Pace", latest: float) -> Outcome:
    pace.wait()
    if time.time() > latest:
        # This process stood still: by now the portion may be another's, and delivered, and its identifier forgotten.
        return Outcome(portion, "not_taken", "its process was held up before it was sent")
    return Outcome(
        portion,
        *stripe_meters.send(
            event_name=portion.meter,
            customer=portion.customer,
            tokens=portion.tokens,
            timestamp=int(portion.used_at.timestamp()),
            identifier=portion.identifier,
            # Of each attempt: under one key Stripe would answer an error of its own for a day. The identifier is what
            # counts an event once.
            idempotency_key=f"{portion.identifier}-{portion.attempt}",
        ),
    )


class _Pace:
    """Lets so many through a second, evenly."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + self._interval
        time.sleep(max(0.0, at - time.monotonic()))
