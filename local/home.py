"""The home folder of a stack: its lock, secrets, ports and logs, and the env file that tells how to reach it."""

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from local.errors import AlreadyRunning, StackError
from local.ports import free_port, is_free

SECRET_BYTES = 32


class Home:
    """Creates the folder when it is missing. Files that hold secrets are readable by their owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.env_file = self.path / "env"
        self._lock: IO[str] | None = None
        self._secrets = self.path / "secrets.json"
        self._ports = self.path / "ports.json"
        self.logs.mkdir(parents=True, exist_ok=True)

    def acquire(self, base_url: str | None) -> None:
        """Takes the home for this process. Raises AlreadyRunning, naming the holder, when another has it.

        The kernel drops the lock when its holder dies, however it dies.
        """
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise AlreadyRunning(f"already running in {self.path}: {holder}") from None
        lock.truncate(0)
        lock.write(f"{base_url or 'services only'} (pid {os.getpid()})\n")
        lock.flush()
        self._lock = lock

    def release(self) -> None:
        """Gives the home up; nothing happens when it is not held."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def remove(self) -> None:
        """Deletes the folder and all data, also what lies elsewhere behind a link. Call only while holding it."""
        for entry in self.path.iterdir():
            if entry.is_symlink():
                shutil.rmtree(entry.resolve(), ignore_errors=True)
        shutil.rmtree(self.path)

    @property
    def held(self) -> bool:
        return self._lock is not None

    def secret(self, name: str) -> str:
        """The secret of that name, made at the first call and the same ever after."""
        known = _read_json(self._secrets)
        if name not in known:
            known[name] = secrets.token_hex(SECRET_BYTES)
            self.remember_secrets(known)
        return str(known[name])

    def known_secrets(self) -> dict[str, str]:
        """Every secret kept so far, by name."""
        return {name: str(value) for name, value in _read_json(self._secrets).items()}

    def remember_secrets(self, values: Mapping[str, object]) -> None:
        """Keeps these secrets beside the ones already known."""
        write_private(self._secrets, json.dumps({**_read_json(self._secrets), **values}, indent=1))

    def port(self, name: str) -> int:
        """The port this server had last time when it is still free, else a new one, remembered."""
        known = _read_json(self._ports)
        port = known.get(name)
        if not isinstance(port, int) or not is_free(port):
            port = free_port()
            write_private(self._ports, json.dumps({**known, name: port}, indent=1))
        return port

    def log(self, name: str) -> Path:
        """The log file of a process; what an earlier stack wrote moves to NAME.log.1."""
        log = self.logs / f"{name}.log"
        with contextlib.suppress(FileNotFoundError):
            log.replace(log.with_suffix(".log.1"))
        log.touch(mode=0o600)
        return log

    def write_env(self, values: Mapping[str, str]) -> None:
        """Writes the env file at once and whole, in a form that a shell's `.` and dotenv readers take."""
        write_private(self.env_file, "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))

    def remove_env(self) -> None:
        self.env_file.unlink(missing_ok=True)


def write_private(path: Path, content: str) -> None:
    """Replaces a file atomically; only its owner can read it."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read_json(path: Path) -> dict[str, object]:
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise StackError(f"{path} is not JSON any more; restore it, or remove {path.parent} to start afresh") from None
    if not isinstance(known, dict):
        raise StackError(f"{path} does not hold a JSON object; remove {path.parent} to start afresh")
    return known
