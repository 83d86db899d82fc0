"""The whole of Batchyard on one machine: services, provider, web and workers, started, watched and stopped together."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from local import environment, left_overs
from local.errors import StackError
from local.home import Home
from local.mailbox import Mailbox
from local.ports import free_port, is_free
from local.postgres import Postgres
from local.process import ROOT, Process, wait_until
from local.redis import EmbeddedRedis
from local.watch import LONGEST_DELAY_SECONDS, Watch

READY_SECONDS = 60
MIGRATION_SECONDS = 600
DRAIN_SECONDS = 60
POLL_SECONDS = 0.05


class Stack:
    """A running Batchyard in a home folder; use it in a `with` statement, or call start and stop.

    `extra_env` holds settings that win over what the stack would choose. DATABASE_URL, REDIS_URL, PROVIDER_URL,
    PROVIDER_API_KEY, OPENAI_API_KEY, SMTP_URL and STRIPE_SECRET_KEY there name services that exist already, and nothing
    is started in their place; the variables of our own process are not asked, so that a test never touches a real one.
    Without `with_stripe` nothing is sold, unless a key is given.
    `port` None or 0 takes a free one. `durable=False` trades safety on a machine's crash for speed, for tests,
    and `keep=False` removes the home when the stack stops. `longest_restart_seconds` is how long tend()
    leaves a process down at most that keeps dying, for tests that kill one again and again.
    `tell` gets a line for people at every step. Raises StackError when the stack cannot start; nothing runs on then.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        workers: int = 1,
        deliverers: int = 0,
        extra_env: Mapping[str, str] | None = None,
        with_web: bool = True,
        with_processes: bool = True,
        with_stripe: bool = True,
        durable: bool = True,
        keep: bool = True,
        longest_restart_seconds: float = LONGEST_DELAY_SECONDS,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.home = Home(home)
        self.port = port or free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.env: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self._workers = workers if with_processes else 0
        self._deliverers = deliverers if with_processes else 0
        self._with_web = with_web and with_processes
        self._with_processes = with_processes
        self._with_stripe = with_stripe and with_processes
        self._given = environment.without_our_own(self.home, extra_env or {})
        self._durable = durable
        self._keep = keep
        self._tell = tell
        self._watch = Watch(tell, longest_restart_seconds)
        self._record = self.home.path / "processes.json"
        self._hastened = False
        self._ready = False
        self._mailbox: Mailbox | None = None

    @classmethod
    def services_only(cls, home: Path, *, durable: bool = False, keep: bool = False) -> Self:
        """PostgreSQL and Redis alone, for tests, with an empty database; call migrate() for the schema."""
        return cls(home, with_processes=False, durable=durable, keep=keep)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Starts everything in order and returns when it is ready. Raises AlreadyRunning when another has the home."""
        self.home.acquire(self.base_url if self._with_web else None)
        try:
            self._clear_the_way()
            self._start_services()
            if self._with_processes:
                self._start_provider()
                self._start_mailbox()
                self._start_stripe()
                self.migrate()
                self._start_web()
                for _ in range(self._workers):
                    self.start_worker()
                for _ in range(self._deliverers):
                    self.start_deliverer()
                self._wait_ready()
                self._seed()
            self._ready = True
            self._note_pids()
        # Also a signal: what has started until now must not stay behind.
        except BaseException:
            self.stop()
            raise

    def tend(self) -> None:
        """Starts again what died by itself, when its time has come. Call it a few times a second, from one thread."""
        if self._watch.tend([*self.processes.values()]):
            self._note_pids()

    def start_worker(self) -> Process:
        """One more worker process, which generates."""
        return self._start_worker_of("worker", [])

    def start_deliverer(self) -> Process:
        """One more worker process that delivers webhooks."""
        return self._start_worker_of("deliverer", ["deliveries"])

    def _start_worker_of(self, kind: str, arguments: list[str]) -> Process:
        worker = self._process(
            f"{kind}-{len(self._processes_of(kind)) + 1}",
            [sys.executable, "worker.py", *arguments],
            grace_seconds=DRAIN_SECONDS,
            # An embedded PostgreSQL ends when the stack is killed, and a worker could record nothing any more.
            orphan_signal=signal.SIGKILL if "postgres" in self.processes else signal.SIGTERM,
            # An operator may drain it.
            may_end=True,
        )
        self._launch(worker)
        return worker

    def migrate(self) -> None:
        """Brings the database to the newest revision."""
        self._tell("migrating the database")
        migration = self._process("migrations", [sys.executable, "-m", "migrations"])
        migration.start()
        if not migration.wait(MIGRATION_SECONDS) or migration.exit_status != 0:
            migration.stop()
            raise StackError(f"the database could not be migrated: {migration.report()}")

    def hasten(self) -> None:
        """Makes a stop() that waits for workers to drain wait no longer; safe to call from a signal handler."""
        self._hastened = True

    def stop(self) -> None:
        """Stops everything, last started first; workers finish their calls. Without its home, nothing happens."""
        if not self.home.held:
            return
        self._ready = False
        self.home.remove_env()
        self._drain_workers()
        for process in reversed(self.processes.values()):
            process.stop()
        self.processes.clear()
        if self._mailbox is not None:
            self._mailbox.stop()
            self._mailbox = None
        self._record.unlink(missing_ok=True)
        if not self._keep:
            self.home.remove()
        self.home.release()

    def _clear_the_way(self) -> None:
        self.home.remove_env()
        for name in left_overs.stop_all(self._record):
            self._tell(f"stopped {name}, left over from a stack that was killed")
        if self._with_web and not wait_until(lambda: is_free(self.port), 2):
            raise StackError(f"port {self.port} is in use by another program; choose one with PORT=...")

    def _start_services(self) -> None:
        services: list[Postgres | EmbeddedRedis] = []
        if "DATABASE_URL" not in self._given:
            services.append(Postgres(self.home, self._durable))
        if "REDIS_URL" not in self._given:
            services.append(EmbeddedRedis(self.home, self._durable))
        for service in services:
            self._tell(f"starting {service.name}")
            service.prepare()
            self._launch(service.process)
        for service in services:
            service.wait_ready()
        urls = {service.variable: service.url for service in services}
        self.env = environment.build(self.home, self.port, urls, self._given, with_stripe=self._with_stripe)

    def _start_provider(self) -> None:
        if not environment.wants_simulated_provider(self._given):
            return
        self._tell("starting the simulated provider")
        port = urlsplit(self.env["PROVIDER_URL"]).port
        assert port is not None
        provider = self._process("provider", [sys.executable, "-m", "local.provider", "--port", str(port)])
        self._launch(provider)
        if not wait_until(lambda: not provider.running or not is_free(port), READY_SECONDS) or not provider.running:
            raise StackError(f"the simulated provider did not start: {provider.report()}")

    def _start_mailbox(self) -> None:
        """In this process: it is small, and what it has to say is said here."""
        if environment.wants_mailbox(self._given):
            port = urlsplit(self.env["SMTP_URL"]).port
            assert port is not None
            mailbox = Mailbox(self.home, port, self._tell)
            mailbox.start()
            self._mailbox = mailbox

    def _start_stripe(self) -> None:
        """Not waited for: nobody asks it before the stack is ready."""
        if "STRIPE_URL" not in self.env:
            return
        self._tell("starting the stand-in for Stripe")
        command = [sys.executable, "-m", "local.stripe", "--port", str(urlsplit(self.env["STRIPE_URL"]).port)]
        command += ["--data", str(self.home.path / "stripe.sqlite")]
        command += ["--webhook-url", f"{self.env['PUBLIC_URL']}/stripe/webhook"]
        self._launch(self._process("stripe", command))

    def _start_web(self) -> None:
        if self._with_web:
            self._tell("starting web and workers")
            command = [sys.executable, "-m", "gunicorn", "-c", "web/gunicorn.py", "wsgi:app"]
            # Ten seconds of grace: with the workers gone, nothing ends that a request could still wait for.
            self._launch(self._process("web", command))

    def _wait_ready(self) -> None:
        wait_until(
            lambda: (self._sells() and (not self._with_web or self._answers_ready())) or self._dead() is not None,
            READY_SECONDS,
        )
        dead = self._dead()
        if dead is not None:
            raise StackError(f"{dead.name} did not start: {dead.report()}")
        if self._with_web and not self._answers_ready():
            raise StackError(f"{self.base_url}/readyz was not ready in {READY_SECONDS} s; see {self.home.logs}")
        if not self._sells():
            raise StackError(f"the stand-in for Stripe did not answer in {READY_SECONDS} s; see {self.home.logs}")

    def _sells(self) -> bool:
        """Whether the stand-in for Stripe listens, or none was to be started."""
        port = urlsplit(self.env.get("STRIPE_URL", "")).port
        return port is None or not is_free(port)

    def _answers_ready(self) -> bool:
        # Not urllib: a proxy named in our environment has no business here.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    def _dead(self) -> Process | None:
        return next((process for process in self.processes.values() if not process.running), None)

    def _seed(self) -> None:
        """In a process of its own, because settings are read once in a process and ours may have others."""
        known = {name: key for name, key in self.home.known_secrets().items() if name in environment.KEY_NAMES}
        seeding = subprocess.run(
            [sys.executable, "-m", "local.seed"],
            input=json.dumps(known),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **self.env},
            start_new_session=True,
        )
        if seeding.returncode != 0:
            raise StackError(f"the local accounts could not be made:\n{seeding.stderr.strip()}")
        keys = json.loads(seeding.stdout)
        self.home.remember_secrets(keys)
        self.env |= keys

    def _note_pids(self) -> None:
        """Writes down what runs now: for people and programs once all is ready, for a later start always."""
        left_overs.remember(self._record, self.processes.values())
        if not self._ready:
            return
        web = self.processes.get("web")
        self.env["WEB_PID"] = str(web.pid) if web is not None else ""
        self.env["WORKER_PIDS"] = ",".join(str(worker.pid) for worker in self._processes_of("worker"))
        self.env["DELIVERER_PIDS"] = ",".join(str(deliverer.pid) for deliverer in self._processes_of("deliverer"))
        self.home.write_env(self.env)

    def _drain_workers(self) -> None:
        """Workers get DRAIN_SECONDS to finish their calls; then, or when hastened, stop() sends a second SIGTERM."""
        workers = [*self._processes_of("worker"), *self._processes_of("deliverer")]
        workers = [worker for worker in workers if worker.running]
        if not workers:
            return
        self._tell("workers finish their calls (Ctrl-C again: give them back)")
        for worker in workers:
            worker.send(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS
        while any(worker.running for worker in workers) and not self._hastened and time.monotonic() < deadline:
            # Between two looks: several processes may end, in any order, and a signal may hasten them.
            time.sleep(POLL_SECONDS)
        for worker in workers:
            worker.grace_seconds = 10

    def _processes_of(self, kind: str) -> list[Process]:
        return [process for name, process in self.processes.items() if name.startswith(f"{kind}-")]

    def _process(
        self,
        name: str,
        command: list[str],
        grace_seconds: float = 10,
        orphan_signal: signal.Signals = signal.SIGTERM,
        may_end: bool = False,
    ) -> Process:
        env = {**os.environ, **self._given, **self.env, "PYTHONUNBUFFERED": "1"}
        log = self.home.log(name)
        return Process(
            name, command, log, env, grace_seconds=grace_seconds, orphan_signal=orphan_signal, may_end=may_end
        )

    def _launch(self, process: Process) -> None:
        self.processes[process.name] = process
        process.start()
        self._note_pids()
