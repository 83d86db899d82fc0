"""How a process of ours runs Python: threads that compute must not hold up those that wait."""

import gc
import sys

ALLOCATIONS_BETWEEN_COLLECTIONS = 20_000
SWITCH_SECONDS = 0.001


def tune() -> None:
    """Called once in each process, when its modules are loaded."""
    # What the modules made is there for good. And by default cycles are looked for every 700 allocations, while each
    # call, and each page of a download, makes thousands that form none.
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    # A thread that waits for a service comes back for the interpreter a dozen times in one statement. Each time it
    # waits this long while another computes: an event loop with a thousand calls, or a download.
    sys.setswitchinterval(SWITCH_SECONDS)
