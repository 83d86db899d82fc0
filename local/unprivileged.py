"""PostgreSQL refuses to run as root. This chooses the user it runs as, and a place that user can reach."""

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.errors import StackError

USERS = ("postgres", "nobody")
# Where the data goes when the home is closed to other users, as a clone under /root is. /var/lib comes first because
# systems remove what lies untouched in /var/tmp for weeks.
OPEN_FOLDERS = (Path("/var/lib"), Path("/var/tmp"))


@dataclass(frozen=True)
class Place:
    """Where PostgreSQL lives: its data folder, its binaries, and the (uid, gid) it runs as, None for our own."""

    data: Path
    binaries: Path
    user: tuple[int, int] | None


def find_place(folder: Path, install: Path) -> Place:
    """The place for a home's PostgreSQL folder and an installation of PostgreSQL.

    Usually the folder itself and the installation as it is. As root, when another user cannot reach them, both are
    put in an open folder, and `folder` becomes a link to it.
    """
    if os.geteuid() != 0:
        folder.mkdir(parents=True, exist_ok=True)
        return Place(folder / "data", install / "bin", None)
    user = _user_for(folder / "data")
    if folder.is_symlink():
        folder = folder.resolve()
        _make_open_folder(folder)
    elif not _can_reach(user, folder.parent):
        folder = _link_to_open_folder(folder)
    else:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    if not _can_reach(user, install / "bin" / "postgres"):
        install = _copy_of(install, folder / "install")
    return Place(folder / "data", install / "bin", user)


def run_as(user: tuple[int, int] | None, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a short command as that user, out of reach of the terminal's Ctrl-C."""
    as_user = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    # mypy cannot tell which of run()'s many forms this is, since a part of its arguments is a dictionary.
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command,
        env=env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **as_user,
    )


def _user_for(data: Path) -> tuple[int, int]:
    """The owner of the data when there is some, else the first user the system has."""
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid, data.stat().st_gid
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise StackError(f"PostgreSQL cannot run as root, and there is no user {' or '.join(USERS)}; run as another user")


def _can_reach(user: tuple[int, int], path: Path) -> bool:
    """Whether that user may enter a folder, or run a program."""
    return run_as(user, ["test", "-x", str(path)], {**os.environ}).returncode == 0


def _link_to_open_folder(folder: Path) -> Path:
    """An empty open folder for this home, and a link to it."""
    if folder.exists():
        raise StackError(
            f"{folder} exists, but its user cannot reach it; open its parent folders to others, or remove it"
        )
    base = next((base for base in OPEN_FOLDERS if os.access(base, os.W_OK)), None)
    if base is None:
        raise StackError(
            f"other users cannot reach {folder}, and none of {OPEN_FOLDERS} is writable; set BATCHYARD_HOME"
        )
    target = base / f"batchyard-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    _make_open_folder(target)
    # No link led here, so what it holds belongs to a home that was deleted, and no one has its password any more.
    shutil.rmtree(target)
    _make_open_folder(target)
    folder.symlink_to(target)
    return target


def _make_open_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != 0:
        raise StackError(f"{folder} was made by another user; look at it and remove it")
    folder.chmod(0o755)


def _copy_of(install: Path, copy: Path) -> Path:
    """A copy of the installation that everyone can read, made anew when the installation changed.

    The wheel keeps shared libraries in a folder beside its package, and its programs look for them by relative path.
    """
    stamp, program = copy / "source", install / "bin" / "postgres"
    source = f"{program} {program.stat().st_size} {program.stat().st_mtime_ns}"
    package = install.parent
    copied = copy / package.name / install.name
    if not stamp.exists() or stamp.read_text() != source:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(install, copied, ignore=shutil.ignore_patterns("include", "*.a"))
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        for path in (copy, *copy.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        stamp.write_text(source)
    return copied
