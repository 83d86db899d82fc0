"""A real browser on a running stack. Whatever a test is about, pages load nothing from elsewhere and break no rule of
their policy."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from local.process import ROOT
from local.stack import Stack
from tests.browser import chromium
from tests.browser.visit import Visit
from tests.node_packages import MissingError

ARTEFACTS = Path(os.environ.get("BATCHYARD_TEST_ARTEFACTS") or ROOT / ".artefacts") / "pages"

NewVisit = Callable[..., Visit]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, or everything that needs it fails and says what is missing."""
    try:
        found = chromium.find()
    except MissingError as missing:
        raise pytest.fail.Exception(str(missing), pytrace=False) from None
    with sync_playwright() as playwright:
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        running = playwright.chromium.launch(executable_path=found.program, env=env | dict(found.env))
        yield running
        running.close()


@pytest.fixture
def new_visit(stack: Stack, browser: Browser) -> Iterator[NewVisit]:
    """Opens another browser window, with cookies of its own, as somebody's: `dark`, or as wide as a phone."""
    opened: list[Visit] = []

    def make(*, dark: bool = False, phone: bool = False, base_url: str = stack.base_url) -> Visit:
        opened.append(Visit(browser, base_url, ARTEFACTS, dark=dark, phone=phone))
        return opened[-1]

    yield make
    for visit in opened:
        visit.close()


@pytest.fixture
def visit(new_visit: NewVisit) -> Visit:
    return new_visit()
