"""docs/openai-compatibility.md says what is there: its tables are held against the app and the plans."""

import re
from pathlib import Path

import pytest

from common.plans import OWN_FILE, read

PAGE = Path(__file__).parents[2] / "docs" / "openai-compatibility.md"
RESOURCES = ("files", "batches", "models")
VERDICTS = {"matches", "differs", "ours"}


def rows(*head: str) -> list[list[str]]:
    """The rows of the page's table whose first columns are these, without code marks."""
    _, _, below = PAGE.read_text().partition(f"\n| {' | '.join(head)} |")
    assert below, f"the page has no table with {head}"
    table = below.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in table]


@pytest.fixture
def served(settings: dict[str, str]) -> dict[str, set[tuple[str, str]]]:
    """Method and path of every route of the three resources, without its version, by version."""
    # Not above: the app's modules read the settings, which are there only now.
    from web.app import create_app

    found: dict[str, set[tuple[str, str]]] = {"/v1": set(), "": set()}
    for rule in create_app().url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        version = "/v1" if path.startswith("/v1/") else ""
        path = path.removeprefix(version)
        if path.split("/")[1] in RESOURCES:
            found[version] |= {(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    return found


def test_the_table_of_routes_and_the_routes_are_the_same(served: dict[str, set[tuple[str, str]]]) -> None:
    written = [(method, path) for method, path, *_ in rows("method", "path")]
    assert len(written) == len(set(written))
    assert all(path.startswith("/v1/") for _, path in written)
    assert {(method, path.removeprefix("/v1")) for method, path in written} == served["/v1"]


def test_every_route_is_there_without_its_version_too(served: dict[str, set[tuple[str, str]]]) -> None:
    assert served[""] == served["/v1"] != set()


def test_every_route_is_judged_and_what_differs_is_explained() -> None:
    for _, path, verdict, why in rows("method", "path"):
        assert verdict in VERDICTS, path
        assert why or verdict == "matches", path


def test_the_table_of_limits_is_that_of_the_plans() -> None:
    written = [[cell.replace(",", "") for cell in row] for row in rows("plan", "rows in a batch")]
    assert written == [
        [plan.name, str(plan.max_rows), str(plan.max_file_bytes), str(plan.retention_days)]
        for plan in read(OWN_FILE).values()
    ]
