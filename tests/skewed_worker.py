"""A worker whose clock is wrong: python tests/skewed_worker.py SECONDS, run from the repository's folder.

What Python has for the time of day is shifted before anything else is imported; what measures time goes on as it is.
"""

import datetime
import runpy
import sys
import time
from datetime import datetime as _datetime
from typing import Any

SHIFT_SECONDS = float(sys.argv[1])
SHIFT = datetime.timedelta(seconds=SHIFT_SECONDS)

_time, _time_ns = time.time, time.time_ns


class _Kind(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _datetime)


class Shifted(_datetime, metaclass=_Kind):
    """datetime, an hour early or late; what it makes are plain datetimes."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _datetime.now(tz) + SHIFT

    @classmethod
    def utcnow(cls) -> Any:
        return _datetime.now(datetime.UTC).replace(tzinfo=None) + SHIFT


def main() -> None:
    time.time = lambda: _time() + SHIFT_SECONDS
    time.time_ns = lambda: _time_ns() + int(SHIFT_SECONDS * 1_000_000_000)
    datetime.datetime = Shifted  # type: ignore[misc]
    sys.argv = ["worker.py"]
    sys.path[0] = "."
    runpy.run_path("worker.py", run_name="__main__")


if __name__ == "__main__":
    main()
