"""What a process that delivers does for metering: it rolls receipts up, sends what waits, ends doubts, alarms."""

import logging
import threading

from common import meter_alarms, meter_doubts, meter_outbox, metering, stripe_api
from common.errors import BatchyardError
from common.meter_sender import send_due
from worker.repeating import repeat

log = logging.getLogger(__name__)

# Soon enough after each hour, and after the end of a billing period, that Stripe has it before the invoice is final.
ROLLUP_SECONDS = 120.0
SEND_SECONDS = 5.0
DOUBTS_SECONDS = 600.0
ALARMS_SECONDS = 3_600.0
# An attempt may take no longer.
DRAIN_SECONDS = 45.0


class Metering:
    """At work until it is drained, where anything is sold."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._sending = threading.Lock()
        if not stripe_api.is_on():
            return
        for act, first, seconds in (
            (_roll_up, 0.0, ROLLUP_SECONDS),
            (self._send, SEND_SECONDS, SEND_SECONDS),
            (_settle, DOUBTS_SECONDS, DOUBTS_SECONDS),
            (_raise_alarms, ROLLUP_SECONDS, ALARMS_SECONDS),
        ):
            repeat(act, first, seconds, self._ended)

    def _send(self) -> None:
        with self._sending:
            for identifier in meter_outbox.look():
                log.warning("nobody knows whether Stripe has %s: its sums are asked", identifier)
            came = send_due(self._ended)
        if refused := came["refused"]:
            log.error("Stripe refused %d portions of usage: `billing status` says why", refused)

    def drain(self) -> None:
        """Begins nothing more, and waits until what was being sent is recorded. What is not is sent again, under the
        same identifier."""
        self._ended.set()
        if self._sending.acquire(timeout=DRAIN_SECONDS):
            self._sending.release()


def _roll_up() -> None:
    if written := metering.roll_up():
        log.info("usage is to be told to Stripe", extra={"portions": written})


def _settle() -> None:
    try:
        if settled := meter_doubts.settle_by_sums():
            log.info("Stripe's sums ended doubts", extra={"portions": settled})
    except BatchyardError as error:
        log.warning("Stripe's sums cannot be asked", extra={"error": error.message})


def _raise_alarms() -> None:
    meter_alarms.raise_alarms()
