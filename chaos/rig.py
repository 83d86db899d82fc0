"""The stack that a run breaks, and what stands outside of it: the provider's counts, the stand-in for Stripe with what
it was told, and the operator's psql and command line."""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import httpx2
import psutil
import psycopg
import redis
from sqlalchemy import text

from chaos.parts import PLANS
from chaos.sizes import Sizes
from common import accounts, keys
from common.database import as_owner
from local.process import ROOT, Process
from local.stack import Stack
from tests.process_settings import process_settings
from tests.stripe_process import KEY, StandIn, make_meter, running_standin

LOOK_TIMEOUT_SECONDS = 5
# The supervisor's pause after a death grows when deaths follow each other; here they are meant to.
RESTART_SECONDS = 1.0


class Rig:
    """Web, workers, PostgreSQL, Redis, the simulated provider and the stand-in for Stripe, and a key for each of the
    customers, who are all metered. This process has the settings of the stack."""

    def __init__(self, stack: Stack, provider: httpx2.Client, stripe: StandIn) -> None:
        self.stack = stack
        self.env = stack.env
        self.stripe = stripe
        self._provider = provider
        account_ids = [accounts.create(f"chaos {plan}", plan).id for plan in PLANS]
        self.keys = [keys.create(account_id, "chaos") for account_id in account_ids]
        make_meter(stripe)
        for account_id in account_ids:
            customer = stripe.client().v1.customers.create({"metadata": {"account_id": str(account_id)}}).id
            with as_owner() as connection:
                connection.execute(_METERED, {"account_id": account_id, "customer": customer})

    def workers(self) -> list[Process]:
        return [process for name, process in self.stack.processes.items() if name.startswith("worker-")]

    def set_provider(self, **settings: Any) -> None:
        self._provider.put("/_sim/settings", json=settings).raise_for_status()

    def calls(self) -> dict[str, Any]:
        """The provider's counts."""
        return self._asked("/_sim/calls")

    def answered(self) -> int:
        """Jobs whose call was answered at least once, which is how far the work has come."""
        return sum(self.calls()["successes_per_body"].values())

    def answered_again(self) -> set[str]:
        """The hashes of the bodies that were answered more than once."""
        return set(self._asked("/_sim/repeated")["successes"])

    def is_exposed(self, body: bytes) -> bool:
        """Whether a call with this body is in flight, or was answered."""
        counted = self._asked(f"/_sim/calls/{digest(body)}")
        return bool(counted["in_flight"] or counted["successes"])

    def _asked(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._provider.get(path).raise_for_status().json()
        return found

    def query(self, statement: LiteralString, **values: Any) -> Sequence[tuple[Any, ...]]:
        """On a connection of its own, since what it asks is restarted at times. Raises psycopg.OperationalError."""
        with psycopg.connect(self.env["DATABASE_URL"], connect_timeout=LOOK_TIMEOUT_SECONDS) as connection:
            return connection.execute(statement, values).fetchall()

    def command(self, *arguments: str) -> int:
        """The exit status of a command of the operator's; shows what it said where that is not 0."""
        command = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **self.env}, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stdout + done.stderr, file=sys.stderr, flush=True)
        return done.returncode

    def postgres_answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return self.query("SELECT 1") == [(1,)]
        return False

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.env["REDIS_URL"], socket_timeout=LOOK_TIMEOUT_SECONDS)

    def redis_answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.redis() as connection:
            return bool(connection.ping())
        return False

    def serves(self, worker: Process) -> bool:
        """Whether a worker process has come so far as to listen for work."""
        if not worker.running:
            return False
        port = int(self.env["REDIS_URL"].rpartition(":")[2].partition("/")[0])
        with contextlib.suppress(psutil.Error):
            links = psutil.Process(worker.pid).net_connections("tcp")
            return any(link.raddr and link.raddr.port == port for link in links)
        return False


def digest(body: bytes) -> str:
    """As the provider counts it."""
    return hashlib.sha256(body).hexdigest()[:32]


@contextmanager
def started(sizes: Sizes) -> Iterator[Rig]:
    """A durable stack in a temporary home: what PostgreSQL committed must outlive its crash."""
    settings = {"WEB_PROCESSES": "2", "WORKER_CONCURRENCY": str(sizes.concurrency)}
    with (
        tempfile.TemporaryDirectory(prefix="batchyard-chaos-") as folder,
        running_standin() as stripe,
        Stack(
            Path(folder) / "home",
            workers=sizes.workers,
            deliverers=1,
            extra_env=settings | {"STRIPE_SECRET_KEY": KEY, "STRIPE_API_BASE": stripe.url},
            keep=False,
            longest_restart_seconds=RESTART_SECONDS,
        ) as stack,
        httpx2.Client(base_url=stack.env["PROVIDER_URL"].removesuffix("/v1"), timeout=30, trust_env=False) as provider,
        process_settings(stack.env),
    ):
        yield Rig(stack, provider, stripe)


_METERED = text("UPDATE accounts SET stripe_customer_id = :customer, metered_from = now() WHERE id = :account_id")
