"""What time it is: for customers of a test clock its frozen time, for all others this machine's with the shift that
`/_standin/advance` adds up."""

import time
from typing import Any

from local.stripe.store import Store

# The year 6325: sums with it are still dates.
LATEST = 2**37
SHIFT = "shift_seconds"


def now(store: Store, test_clock: str | None = None) -> int:
    """Seconds of the Unix epoch."""
    if store.frozen_at is not None:
        return store.frozen_at
    clock = store.find("test_helpers.test_clock", test_clock) if test_clock else None
    if clock is not None:
        return int(clock["frozen_time"])
    return int(time.time()) + int(store.setting(SHIFT, "0"))


def now_of(store: Store, owned: dict[str, Any]) -> int:
    """The time for an object that may be of a test clock."""
    return now(store, owned.get("test_clock"))


def shift(store: Store, seconds: int) -> None:
    """Adds to the shift of everybody without a test clock."""
    store.set(SHIFT, str(int(store.setting(SHIFT, "0")) + seconds))
