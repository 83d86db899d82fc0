"""python -m local.stripe: starts the stand-in and prints its address when it listens."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

import local.stripe
from local.stripe import clocks, cycles, webhook_endpoints
from local.stripe.admin import Admin
from local.stripe.api import MAX_BODY_BYTES, Api
from local.stripe.deliveries import Sender
from local.stripe.pages import Pages
from local.stripe.store import Store

log = logging.getLogger(__name__)

STOP_SECONDS = 1.0
TICK_SECONDS = 1.0


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    store = Store(arguments.data)
    if arguments.webhook_url:
        # Not as an argument, where every process of the machine could read it.
        webhook_endpoints.given_at_start(store, arguments.webhook_url, os.environ["STRIPE_WEBHOOK_SECRET"])
    with contextlib.closing(store):
        asyncio.run(_serve(store, arguments.port))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.stripe",
        description=local.stripe.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1; 0 for a free one")
    parser.add_argument("--data", type=Path, help="the file that a restart goes on with; without one all is forgotten")
    parser.add_argument("--webhook-url", help="an endpoint for all events, with the secret in STRIPE_WEBHOOK_SECRET")
    return parser.parse_args()


def _listening(port: int) -> socket.socket:
    """Bound before the app is made, because the addresses of pages have the port in them."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        sys.exit(f"the stand-in for Stripe cannot listen on port {port}: {error.strerror}")
    return listening


async def _serve(store: Store, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    # What is compressed stays so, and is no form: what could not be unpacked would be a failure of aiohttp.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS, auto_decompress=False)
    sender = Sender(store)
    listening = _listening(port)
    root = f"http://127.0.0.1:{listening.getsockname()[1]}"
    api = Api(store, sender, root)
    api.add_to(app)
    Admin(store, sender, api).add_to(app)
    Pages(store, sender, root).add_to(app)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    background = [asyncio.create_task(sender.run()), asyncio.create_task(_let_time_pass(store, sender))]
    print(f"stand-in for Stripe at {root}", flush=True)
    await stop.wait()
    for task in background:
        task.cancel()
    await runner.cleanup()


async def _let_time_pass(store: Store, sender: Sender) -> None:
    while True:
        try:
            if cycles.anything_due(store):
                with store.transaction():
                    cycles.run(store, None, clocks.now(store))
                sender.wake()
        # Tried again, as all of it was taken back; nothing else waits for it.
        except Exception:
            log.exception("what is due could not be done")
        await asyncio.sleep(TICK_SECONDS)


if __name__ == "__main__":
    main()
