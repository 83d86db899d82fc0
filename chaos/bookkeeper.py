"""Rolls usage up all the time, as an operator could by hand: in a run of minutes hardly an hour ends, and what Stripe
is told should be in many portions, cut at any moment of the work."""

import threading

from sqlalchemy.exc import SQLAlchemyError

from common import metering

BETWEEN_PASSES_SECONDS = 0.5


class Bookkeeper:
    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(BETWEEN_PASSES_SECONDS):
            try:
                metering.roll_up(running_hour=True)
            except SQLAlchemyError:
                # PostgreSQL is away, and took the pass with it.
                continue
