"""`python -m local up`: the whole stack in the foreground until Ctrl-C or SIGTERM.

Reads PORT (8000), BATCHYARD_HOME (./.batchyard), WORKERS, DELIVERERS, and every setting of .env.example.
`python -m local remove` deletes the home and all its data.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from local.errors import StackError, StopRequested
from local.home import Home
from local.stack import Stack

DEFAULT_PORT = 8000
TEND_SECONDS = 0.2
# A SIGTERM to the whole process group comes twice, because make passes on its own.
SAME_SIGNAL_SECONDS = 1.0
CURL = """curl {url}/v1/jobs -H "Authorization: Bearer $API_KEY" -H 'Content-Type: application/json' \\
       -H 'Prefer: wait=30' -d '{{"model": "gpt-4o-mini", "prompt": "Say hello."}}'"""


def main() -> NoReturn:
    home = Path(os.environ.get("BATCHYARD_HOME") or ".batchyard")
    try:
        if sys.argv[1:] == ["up"]:
            _up(home)
        elif sys.argv[1:] == ["remove"]:
            _remove(home)
        else:
            sys.exit("usage: python -m local up | remove")
    except StackError as error:
        sys.exit(f"batchyard: {error}")
    sys.exit(0)


def _remove(path: Path) -> None:
    if path.exists():
        home = Home(path)
        home.acquire(None)
        home.remove()


def _up(home: Path) -> None:
    _run(
        Stack(
            home,
            port=_number("PORT", DEFAULT_PORT, 1, 65_535),
            workers=_number("WORKERS", _default_workers(), 0, 64),
            deliverers=_number("DELIVERERS", 1, 0, 64),
            extra_env=os.environ,
            tell=say,
        )
    )


def _run(stack: Stack) -> None:
    """Starts the stack and tends it until a signal comes; a second signal makes stopping hasty."""
    asked_at: float | None = None

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if asked_at is not None:
            if time.monotonic() - asked_at > SAME_SIGNAL_SECONDS:
                stack.hasten()
            return
        asked_at = time.monotonic()
        raise StopRequested(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        stack.start()
        _summarize(stack)
        while True:
            stack.tend()
            # Between two looks at the processes; a signal ends it at once.
            time.sleep(TEND_SECONDS)
    except StopRequested:
        say("stopping")
    finally:
        asked_at = asked_at or time.monotonic()
        stack.stop()
    say("stopped")


def _summarize(stack: Stack) -> None:
    env_file, logs = _shown(stack.home.env_file), _shown(stack.home.logs)
    say(f"Batchyard runs at {stack.base_url}")
    say(f"keys and addresses: {env_file}    logs: {logs}/")
    say("try it in another terminal:")
    say(f"  . {env_file}; " + CURL.format(url=stack.base_url))
    say("Ctrl-C stops it")
    say("ready")


def say(line: str) -> None:
    """Prints a line. A terminal that has gone away is no reason to stop."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _shown(path: Path) -> Path:
    """The path as it is typed from here."""
    with contextlib.suppress(ValueError):
        return Path(".") / path.relative_to(Path.cwd())
    return path


def _default_workers() -> int:
    """One worker process keeps hundreds of calls in flight; a second pays where web and PostgreSQL leave it a core."""
    return 2 if (os.cpu_count() or 1) >= 4 else 1


def _number(name: str, default: int, least: int, most: int) -> int:
    given = os.environ.get(name, "").strip() or str(default)
    if not given.isdecimal() or not least <= int(given) <= most:
        raise StackError(f"{name} must be a number from {least} to {most}, not {given!r}")
    return int(given)


if __name__ == "__main__":
    main()
