"""What the web says and does while PostgreSQL or Redis is away."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from common import accounts, keys
from local.stack import Stack
from tests import databases
from tests.customer import Customer, answer, refusal
from tests.process_settings import process_settings
from tests.web_process import web_process

NOWHERE = {
    "PostgreSQL": {
        "DATABASE_URL": "postgresql://batchyard@127.0.0.1:9/none",
        "WEB_DATABASE_URL": "postgresql://batchyard_web@127.0.0.1:9/none",
    },
    "Redis": {"REDIS_URL": "redis://127.0.0.1:9/0"},
}


@pytest.fixture(scope="module")
def without(services: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Customer]]:
    """A customer of a web process without PostgreSQL, and one of another without Redis."""
    with ExitStack() as opened:
        urls = opened.enter_context(databases.cloned(services))
        env = services.env | urls | {"STORAGE_URL": tmp_path_factory.mktemp("storage").as_uri()}
        with process_settings(env):
            key = keys.create(accounts.create("Ann", "pro").id, "test")
        processes = {name: opened.enter_context(web_process(env | away)) for name, away in NOWHERE.items()}
        yield {name: opened.enter_context(Customer(process.url, key)) for name, process in processes.items()}


@pytest.mark.parametrize(
    ("away", "checks"),
    [
        ("PostgreSQL", {"postgresql": "does not answer", "redis": "ok"}),
        ("Redis", {"postgresql": "ok", "redis": "does not answer"}),
    ],
)
def test_readiness_names_the_service_that_is_away_while_the_process_is_healthy(
    without: dict[str, Customer], away: str, checks: dict[str, str]
) -> None:
    response = without[away].get("/readyz")
    assert response.status_code == 503
    rate_limits = "shared" if away == "PostgreSQL" else "each process by itself"
    assert response.json() == {"status": "not ready", "checks": checks, "rate_limits": rate_limits}
    assert without[away].get("/healthz").json() == {"status": "ok"}


def test_with_both_services_it_is_ready(customer: Customer) -> None:
    checks = {"postgresql": "ok", "redis": "ok"}
    assert answer(customer.get("/readyz")) == {"status": "ready", "checks": checks, "rate_limits": "shared"}


def test_without_postgresql_requests_are_refused_for_the_moment(without: dict[str, Customer]) -> None:
    customer = without["PostgreSQL"]
    for response in (
        customer.post("/v1/jobs", {"model": "sim", "prompt": "Hi"}),
        customer.get("/v1/jobs"),
        customer.upload(b"text\na\n"),
    ):
        error = refusal(response, 503)
        assert (error["type"], error["code"]) == ("unavailable_error", "database_away")
        assert int(response.headers["retry-after"]) >= 1


def test_without_redis_work_is_still_accepted_and_kept(without: dict[str, Customer]) -> None:
    customer = without["Redis"]
    job = customer.submit({"model": "sim", "prompt": "Hi"})
    assert customer.job(job["id"])["status"] == "queued"
    waited = customer.submit({"model": "sim", "prompt": "Hi"}, wait=1)
    assert waited["status"] == "queued"
    batch = customer.create_batch(b"text\na\n")
    assert customer.batch(batch["id"])["status"] == "validating"
    cancelled = answer(customer.post(f"/v1/jobs/{job['id']}/cancel"))
    assert cancelled["status"] == "cancelled"
    assert answer(customer.post(f"/v1/batches/{batch['id']}/cancel"))["status"] == "cancelled"
