"""The walls between the packages, as design and ARCHITECTURE.md draw them, held by looking at every import there is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("web", "worker", "common", "migrations", "local")
FOLDERS = (*PRODUCT, "tests", "bench", "chaos")
SCRIPTS = ("wsgi.py", "worker.py")
# Functions whose first argument is a module's name.
IMPORTERS = ("__import__", "import_module")


def _imports(tree: ast.AST) -> Iterator[str]:
    """The full name of everything that is imported, wherever the import stands."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(text)), *_]):
                if name in IMPORTERS:
                    yield text


def _trees() -> dict[str, ast.Module]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    paths += [ROOT / script for script in SCRIPTS]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_bytes()) for path in paths}


TREES = _trees()
IMPORTS = {file: set(_imports(tree)) for file, tree in TREES.items()}


def _files_that_import(package: str) -> set[str]:
    return {file for file, names in IMPORTS.items() if any(f"{name}.".startswith(f"{package}.") for name in names)}


def _inside(files: set[str], *places: str) -> set[str]:
    """Those of the files that are one of these places, or in it."""
    return {file for file in files if any(file == place or file.startswith(f"{place}/") for place in places)}


def test_the_imports_that_are_looked_at_are_the_programs() -> None:
    assert "common.jobs" in IMPORTS["web/jobs.py"]
    assert "worker.main.main" in IMPORTS["worker.py"]
    assert "os" in IMPORTS["web/gunicorn.py"]


def test_no_import_is_relative_so_that_every_one_names_its_package() -> None:
    relative = [
        file
        for file, tree in TREES.items()
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    ]
    assert relative == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("web", "worker"),
        ("worker", "web"),
        ("common", "web"),
        ("common", "worker"),
        ("common", "migrations"),
        ("migrations", "web"),
        ("migrations", "worker"),
        ("wsgi.py", "worker"),
        ("worker.py", "web"),
        ("local", "web"),
        ("local", "worker"),
    ],
)
def test_one_package_never_imports_another(importer: str, imported: str) -> None:
    assert _inside(_files_that_import(imported), importer) == set()


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("flask", ("web", "wsgi.py")),
        ("werkzeug", ("web",)),
        ("openai", ("worker",)),
        ("rq", ("common/queue.py", "worker", "worker.py")),
        ("alembic", ("migrations",)),
        ("gevent", ("web/greenlets.py",)),
        ("obstore", ("common/storage.py",)),
        ("argon2", ("common/password_hashes.py",)),
        ("genai_prices", ("common/prices.py",)),
        ("aiosmtplib", ("worker/mail_sender.py",)),
        ("aiosmtpd", ("local/mailbox.py",)),
        ("jwt", ("common/identity_keys.py", "common/identity_tokens.py")),
    ],
)
def test_a_library_is_known_in_its_place_alone(library: str, places: tuple[str, ...]) -> None:
    files = _inside(_files_that_import(library), *PRODUCT, *SCRIPTS)
    assert files - _inside(files, *places) == set()


def test_stripe_is_known_to_one_file_at_most() -> None:
    assert len(_inside(_files_that_import("stripe"), *PRODUCT, *SCRIPTS)) <= 1


@pytest.mark.parametrize("package", ["local", "tests", "bench", "chaos"])
def test_nothing_that_is_deployed_imports_what_only_one_machine_needs(package: str) -> None:
    deployed = _inside(_files_that_import(package), "web", "worker", "common", "migrations", *SCRIPTS)
    assert deployed == set()


def test_the_package_worker_is_not_shadowed_by_the_script_of_its_name() -> None:
    assert (ROOT / "worker" / "__init__.py").is_file()


def test_what_gunicorn_imports_before_it_has_made_its_processes_leaves_the_database_to_them() -> None:
    # psycopg decides when it is imported how it waits, which in a process of greenlets has to be another way.
    program = "import sys, web.greenlets; sys.exit('psycopg' in sys.modules or 'sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0
