"""The locked requirements: they cover what is imported, and nothing else can be installed in their place."""

import re
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.unit.test_imports import IMPORTS, ROOT

OURS = ("web", "worker", "common", "migrations", "local", "tests", "bench")
RUN_IN_PRODUCTION = ("web/", "worker/", "common/", "migrations/", "wsgi.py", "worker.py")
FILES = ("run", "local", "dev")


def _text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def _locked(name: str) -> set[str]:
    """Each locked line without its hashes: a distribution, its version and its marker."""
    return {line.rstrip(" \\") for line in _text(name).splitlines() if re.match(r"\w", line)}


def _distributions(name: str) -> set[str]:
    return {line.split("==")[0] for line in _locked(name)}


def _imported(*places: str) -> set[str]:
    """The distributions whose packages are imported there."""
    packages = {
        module.split(".")[0] for file, modules in IMPORTS.items() if file.startswith(places) for module in modules
    }
    known = packages_distributions()
    foreign = packages - sys.stdlib_module_names - {*OURS}
    return {known[package][0].lower().replace("_", "-") for package in foreign}


def test_the_image_has_every_package_that_its_programs_import() -> None:
    assert _imported(*RUN_IN_PRODUCTION) <= _distributions("run")


def test_the_local_stack_has_every_package_that_it_imports() -> None:
    assert _imported(*RUN_IN_PRODUCTION, "local/", "bench/") <= _distributions("local")


@pytest.mark.parametrize(("smaller", "larger"), [("run", "local"), ("local", "dev")])
def test_the_larger_lock_holds_the_smaller_at_the_same_versions(smaller: str, larger: str) -> None:
    # Under the same marker, or under none where the larger one needs it more widely.
    held = _locked(larger)
    assert [line for line in _locked(smaller) if line not in held and line.split(" ;")[0] not in held] == []


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_and_hashed_and_names_no_place_to_get_it_from(name: str) -> None:
    blocks = re.split(r"\n(?=\w)", _text(name).strip())
    assert all(re.match(r"[\w.-]+==\S+", block) for block in blocks)
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|^-|/", _text(name), re.MULTILINE)
