"""The official client for Node, by the tests in node/, which run as Node runs them."""

import json
from pathlib import Path

import pytest

from local.stack import Stack
from tests.conftest import MAX_UPLOAD_BYTES, NewCustomer
from tests.node_packages import MissingError
from tests.sdk import node_program

TESTS = sorted(node_program.SCRIPTS.glob("*.test.mjs"))


@pytest.fixture(scope="session")
def node_client() -> None:
    """The client is installed, or everything that needs it fails and says what is missing."""
    try:
        node_program.install_client()
    except MissingError as missing:
        raise pytest.fail.Exception(str(missing), pytrace=False) from None


@pytest.mark.parametrize("script", TESTS, ids=lambda script: script.name.removesuffix(".test.mjs"))
@pytest.mark.usefixtures("node_client")
def test_the_node_client_works_unchanged(stack: Stack, new_customer: NewCustomer, script: Path) -> None:
    env = {
        "BATCHYARD_URL": stack.base_url,
        "BATCHYARD_KEY": new_customer().key,
        "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
    }
    done = node_program.run_tests(script, env)
    assert done.returncode == 0, done.stdout


def test_the_node_client_is_pinned_and_hashed_and_its_lock_names_no_place_to_get_it_from() -> None:
    package = json.loads((node_program.SCRIPTS / "package.json").read_text())
    lock = json.loads((node_program.SCRIPTS / "package-lock.json").read_text())
    installed = {name: entry for name, entry in lock["packages"].items() if name}
    assert package["dependencies"] == {"openai": installed["node_modules/openai"]["version"]}
    for entry in installed.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry
    assert "://" not in json.dumps(lock)
