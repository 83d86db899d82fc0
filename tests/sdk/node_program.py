"""Programs of the official Node client, as tests/sdk/node locks it."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests import node_packages

SCRIPTS = Path(__file__).parent / "node"
RUN_SECONDS = 300


def install_client() -> None:
    """Raises node_packages.MissingError."""
    node_packages.install(SCRIPTS, "the official Node client")


def run_tests(script: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a script's tests; stdout holds the whole report. Raises MissingError."""
    return node_packages.run(SCRIPTS, ["--test", "--test-reporter=spec", str(script)], env, RUN_SECONDS)


def run_module(source: str, sent: str) -> subprocess.CompletedProcess[str]:
    """Runs the text of a module, which finds what is `sent` in its input. Raises MissingError."""
    return node_packages.run(SCRIPTS, ["--input-type=module", "--eval", source], {}, RUN_SECONDS, sent)
