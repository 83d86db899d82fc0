"""python -m local.provider: starts the simulated provider and prints its address when it listens."""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import ValidationError

import local.provider
from local.provider.behaviour import Behaviour, Behaviours
from local.provider.calls import MAX_DISTINCT, Calls
from local.provider.delivery import Outbox, Waits
from local.provider.protocol import Connection
from local.provider.service import Service

BACKLOG = 4_096
ALLOCATIONS_BETWEEN_COLLECTIONS = 20_000

# Each is a flag, a field of Behaviour and an environment variable.
SETTINGS = {
    "latency": "seconds before each answer",
    "latency_per_token": "seconds more for each output token",
    "tokens": "length of an answer in tokens; 0: its own",
    "rpm": "requests per minute and model; 0: no limit",
    "tpm": "tokens per minute and model; 0: no limit",
}


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    chosen = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    try:
        settings = Behaviour.model_validate(chosen)
    except ValidationError as invalid:
        for problem in invalid.errors():
            print(f"{problem['loc'][0]}: {problem['msg']} (got {problem['input']!r})", file=sys.stderr)
        sys.exit(2)
    _allow_many_connections()
    # The defaults look for cycles every 700 allocations, of which a call makes dozens and leaves none behind.
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    service = Service(Behaviours(settings), Calls(arguments.max_distinct))
    _loop_runner()(_serve(service, arguments.host, arguments.port))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.provider",
        description=local.provider.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, required=True, help="0 for a free one")
    parser.add_argument("--host", default="127.0.0.1")
    for name, meaning in SETTINGS.items():
        variable = f"SIM_{name.upper()}"
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, default=os.environ.get(variable) or None, help=f"{meaning} ({variable})")
    parser.add_argument("--max-distinct", type=int, default=MAX_DISTINCT, help="bodies and jobs that are counted apart")
    return parser.parse_args()


def _allow_many_connections() -> None:
    try:
        import resource
    except ImportError:  # There is no such limit on Windows.
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _loop_runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop
    except ImportError:  # It has no wheel for Windows; the figures are then those of asyncio's own loop.
        return asyncio.run
    return uvloop.run


async def _serve(service: Service, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    waits, outbox = Waits(loop), Outbox(loop)
    server = await loop.create_server(
        lambda: Connection(service.reply, waits, outbox, loop), host, port, backlog=BACKLOG
    )
    listening = server.sockets[0].getsockname()[1]
    print(f"simulated provider at http://{host}:{listening}/v1", flush=True)
    await stop.wait()
    server.close()  # Not waited for: answers under way are dropped, as a provider's restart would drop them.


if __name__ == "__main__":
    main()
