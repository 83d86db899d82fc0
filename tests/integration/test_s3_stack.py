"""A whole Batchyard whose files are kept in S3."""

from collections.abc import Iterator

import pytest

from common import storage
from local.stack import Stack
from tests import databases
from tests.conftest import redis_database
from tests.customer import Customer, answer
from tests.s3 import S3


@pytest.fixture(scope="module")
def s3_stack(services: Stack, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("s3-stack") / "home"
    settings = {"REDIS_URL": redis_database(services, 3), "WEB_PROCESSES": "1"}
    with (
        databases.cloned(services) as urls,
        Stack(home, extra_env=urls | settings | s3.env, with_stripe=False, durable=False, keep=False) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def customer(s3_stack: Stack) -> Iterator[Customer]:
    with Customer(s3_stack.base_url, s3_stack.env["API_KEY"]) as customer:
        yield customer


def new_key(s3: S3, before: set[str]) -> str:
    """The one key that was not there before; nothing is half uploaded beside it."""
    assert s3.unfinished() == []
    (key,) = set(s3.stored()) - before
    return key


def test_a_csv_goes_through_s3_and_its_results_come_back(s3: S3, customer: Customer) -> None:
    before = set(s3.stored())
    texts = [f"row number {number}" for number in range(20)]
    batch = customer.create_batch("\n".join(["text", *texts, ""]).encode())
    assert new_key(s3, before).startswith("a/prefix/")
    assert customer.ended_batch(batch["id"])["status"] == "completed"
    header, found = customer.results(batch["id"])
    assert header[0] == "text"
    assert [(row["text"], row["status"]) for row in found] == [(text, "succeeded") for text in texts]


def test_a_file_of_several_parts_comes_back_to_the_byte(s3: S3, customer: Customer) -> None:
    content = bytes(range(256)) * (3 * storage.PART_BYTES // 256)
    before = set(s3.stored())
    sent = customer.http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", content)})
    file = answer(sent)
    new_key(s3, before)
    assert customer.get(f"/v1/files/{file['id']}/content").content == content
