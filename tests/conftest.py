"""What the tests run against: real services and real processes, started once a session and only when asked for."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings as hypothesis_settings

from common import accounts, keys, queue
from local.stack import Stack
from tests import databases
from tests.customer import Customer
from tests.process_settings import process_settings
from tests.s3 import S3, running_s3
from tests.web_client import WebClient, own_logging

MIB = 2**20
MAX_UPLOAD_BYTES = 16 * MIB
STALL_SECONDS = 5

NewCustomer = Callable[..., Customer]

# Databases are folders of a thousand small files, which a disk copies in four times the time that memory takes.
MEMORY = Path("/dev/shm")
ENOUGH_MEMORY = 4 * 2**30
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH_MEMORY:
    # Where pytest makes the folders of tests.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# A property is right or wrong; how long an example takes on a busy machine says nothing about it. The examples are the
# same each time, so that what breaks the suite is what was changed; RANDOM_EXAMPLES=1 looks for others.
hypothesis_settings.register_profile("suite", deadline=None, derandomize="RANDOM_EXAMPLES" not in os.environ)
hypothesis_settings.load_profile("suite")


def let_through(folder: Path) -> None:
    """Other users can pass through a folder of pytest's to what they know the path of: as root, PostgreSQL runs as one
    of them, and its data would be put on the disk where it cannot come here."""
    if os.geteuid() == 0:
        for closed in (folder, *folder.parents):
            if closed.stat().st_mode & stat.S_IXOTH:
                break
            closed.chmod(closed.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL and Redis. Their database holds the schema and no rows: databases of tests are cloned from it."""
    folder = tmp_path_factory.mktemp("services")
    let_through(folder)
    with Stack.services_only(folder / "home") as stack:
        stack.migrate()
        yield stack


def redis_database(services: Stack, number: int) -> str:
    """One of the numbered databases of Redis."""
    return urlsplit(services.env["REDIS_URL"])._replace(path=f"/{number}").geturl()


@pytest.fixture
def env(services: Stack, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a process on a fresh database, an empty Redis and an empty storage. Its provider is nowhere."""
    storage = tmp_path / "storage"
    storage.mkdir()
    with databases.cloned(services) as urls:
        yield urls | {
            "REDIS_URL": redis_database(services, 2),
            "STORAGE_URL": storage.as_uri(),
            "SECRET_KEY": uuid4().hex,
            "PROVIDER_URL": "http://127.0.0.1:9/v1",
            "PROVIDER_API_KEY": "none",
        }


@pytest.fixture
def settings(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """The settings of `env`, for code that runs in the test's own process."""
    with process_settings(env):
        queue.redis().flushdb()
        yield env


@pytest.fixture
def database(settings: dict[str, str]) -> Iterator[psycopg.Connection]:
    """The fresh database, as its owner; each statement is its own transaction."""
    with psycopg.connect(settings["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def web(settings: dict[str, str]) -> Iterator[WebClient]:
    """A customer of the web app in the test's own process."""
    with own_logging():
        yield WebClient()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 with a bucket that all tests share."""
    with running_s3(tmp_path_factory.mktemp("s3") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def stack(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Batchyard: web, one worker and the simulated provider, on a database of its own."""
    home = tmp_path_factory.mktemp("stack") / "home"
    settings = {
        "REDIS_URL": redis_database(services, 1),
        "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
        "STALL_SECONDS": str(STALL_SECONDS),
        "WEB_PROCESSES": "1",
    }
    with (
        databases.cloned(services) as urls,
        Stack(home, extra_env=urls | settings, with_stripe=False, durable=False, keep=False) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def new_customer(stack: Stack) -> Iterator[NewCustomer]:
    """Makes an account on a plan (pro unless told otherwise) with a key, and gives its customer."""
    with ExitStack() as opened:

        def make(plan: str = "pro") -> Customer:
            with process_settings(stack.env):
                key = keys.create(accounts.create(f"A {plan} account", plan).id, "test")
            return opened.enter_context(Customer(stack.base_url, key))

        yield make


@pytest.fixture(scope="session")
def customer(new_customer: NewCustomer) -> Customer:
    """A customer for tests that do not mind what others of its account submit."""
    return new_customer()


@pytest.fixture
def stack_database(stack: Stack) -> Iterator[psycopg.Connection]:
    """The running stack's database, as its owner."""
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        yield connection
