"""A real browser on a running stack. Whatever a test is about, pages load nothing from elsewhere and break no rule of
their policy."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from local.process import ROOT
from local.stack import Stack
from tests import databases
from tests.browser import chromium
from tests.browser.visit import Visit
from tests.conftest import redis_database
from tests.node_packages import MissingError

ARTEFACTS = Path(os.environ.get("BATCHYARD_TEST_ARTEFACTS") or ROOT / ".artefacts") / "pages"

NewVisit = Callable[[], Visit]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, or everything that needs it fails and says what is missing. It ends with its file: as long as it runs
    its thread has a running event loop, and no other test there could have one."""
    try:
        found = chromium.find()
    except MissingError as missing:
        raise pytest.fail.Exception(str(missing), pytrace=False) from None
    with sync_playwright() as playwright:
        env: dict[str, str | float | bool] = {
            name: value for name, value in os.environ.items() if "proxy" not in name.lower()
        }
        running = playwright.chromium.launch(executable_path=found.program, env=env | {**found.env})
        yield running
        running.close()


@pytest.fixture(scope="session")
def site(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Batchyard that mails and sells, for people."""
    settings = {"REDIS_URL": redis_database(services, 7), "WEB_PROCESSES": "1"}
    home = tmp_path_factory.mktemp("site") / "home"
    with (
        databases.cloned(services) as urls,
        Stack(home, deliverers=1, extra_env=urls | settings, durable=False, keep=False) as running,
    ):
        yield running


@pytest.fixture
def new_visit(site: Stack, browser: Browser) -> Iterator[NewVisit]:
    """Opens another browser window, with cookies of its own."""
    opened: list[Visit] = []

    def make() -> Visit:
        opened.append(Visit(browser, site.base_url, site.env["STRIPE_URL"], ARTEFACTS))
        return opened[-1]

    yield make
    for visit in opened:
        visit.close()


@pytest.fixture
def visit(new_visit: NewVisit) -> Visit:
    return new_visit()
