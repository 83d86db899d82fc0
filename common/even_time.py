"""The same time whatever is found: so that how long an answer takes does not tell whether an address exists."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

# Longer than either way takes: a transaction of some statements, or one that finds nothing to do.
SECONDS = 0.1


@contextmanager
def even_time() -> Iterator[None]:
    """Lasts at least SECONDS, also where it fails."""
    end = time.monotonic() + SECONDS
    try:
        yield
    finally:
        # What is left of it is waited out.
        time.sleep(max(0.0, end - time.monotonic()))
