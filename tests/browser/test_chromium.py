"""The browser that the tests drive: on any machine there is one, or they fail and say how to get one."""

import json
import sys
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.node_packages import MissingError


def test_the_one_that_is_named_is_taken_and_nothing_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", sys.executable)
    assert chromium.find().program == Path(sys.executable)
    monkeypatch.setenv("CHROMIUM", "/no/such/browser")
    with pytest.raises(MissingError, match="CHROMIUM is /no/such/browser, which is no program"):
        chromium.find()


def test_the_package_is_pinned_and_hashed_and_its_lock_names_no_place_to_get_it_from() -> None:
    package = json.loads((chromium.FOLDER / "package.json").read_text())
    lock = json.loads((chromium.FOLDER / "package-lock.json").read_text())
    installed = {name: entry for name, entry in lock["packages"].items() if name}
    wanted = installed["node_modules/@sparticuz/chromium"]["version"]
    assert package["dependencies"] == {"@sparticuz/chromium": wanted}
    assert all(entry["integrity"].startswith("sha512-") for entry in installed.values())
    assert "://" not in json.dumps(lock)
