"""Request bodies with a Content-Encoding: gzip is unpacked as it is read, and all else is refused."""

import gzip
import io
import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from bench.memory import Growth
from local.stack import Stack
from tests.conftest import MAX_UPLOAD_BYTES, MIB, NewCustomer
from tests.customer import Customer, answer, refusal
from tests.multipart import BOUNDARY, MULTIPART, form

JOB = json.dumps({"model": "sim", "prompt": "Say hello to Ada"}).encode()
CSV = b"text,more\nhello,there\ngood,bye\n"
MAX_BODY_BYTES = 4 * MIB
MAX_GROWTH_MIB = 64


CSV_FORM = form(CSV, model="sim", prompt="About {{text}}")
JSONL_FORM = form(b'{"custom_id": "a"}\n', purpose="batch")
JSON = "application/json"


def send(
    customer: Customer, path: str, content: bytes | Iterable[bytes], content_type: str, encoding: str = "gzip"
) -> httpx2.Response:
    """Sends it with a Content-Length, or in chunks where it is an iterable."""
    headers = {"Content-Type": content_type, "Content-Encoding": encoding}
    return customer.http.post(path, content=content, headers=headers)


def in_chunks(content: bytes, size: int = 7) -> Iterator[bytes]:
    yield from (content[at : at + size] for at in range(0, len(content), size))


def in_members(content: bytes, size: int = 10) -> bytes:
    return b"".join(gzip.compress(content[at : at + size]) for at in range(0, len(content), size))


@pytest.mark.parametrize("sent", [lambda packed: packed, in_chunks], ids=["whole", "chunks"])
@pytest.mark.parametrize("pack", [gzip.compress, in_members], ids=["one member", "many members"])
def test_what_is_sent_as_gzip_is_taken_like_what_is_sent_plain(
    customer: Customer,
    pack: Callable[[bytes], bytes],
    sent: Callable[[bytes], bytes | Iterable[bytes]],
) -> None:
    job = answer(send(customer, "/v1/jobs", sent(pack(JOB)), JSON))
    assert "Ada" in customer.ended_job(job["id"])["output_text"]
    batch = answer(send(customer, "/v1/batches", sent(pack(CSV_FORM)), MULTIPART))
    assert customer.ended_batch(batch["id"])["status"] == "completed"
    assert [row["text"] for row in customer.results(batch["id"])[1]] == ["hello", "good"]
    file = answer(send(customer, "/v1/files", sent(pack(JSONL_FORM)), MULTIPART))
    assert customer.get(f"/v1/files/{file['id']}/content").content == b'{"custom_id": "a"}\n'


def test_a_large_file_sent_as_gzip_is_stored_to_the_byte(customer: Customer) -> None:
    content = random.Random(1).randbytes(MAX_UPLOAD_BYTES - MIB)
    file = answer(send(customer, "/v1/files", gzip.compress(form(content, purpose="batch"), 1), MULTIPART))
    assert file["bytes"] == len(content)
    assert customer.get(f"/v1/files/{file['id']}/content").content == content


@pytest.mark.parametrize("encoding", ["identity", "IDENTITY"])
def test_identity_is_no_encoding(customer: Customer, encoding: str) -> None:
    assert send(customer, "/v1/jobs", JOB, JSON, encoding).status_code == 202


@pytest.mark.parametrize("encoding", ["GZIP", "x-gzip"])
def test_gzip_has_two_names_in_any_case(customer: Customer, encoding: str) -> None:
    assert send(customer, "/v1/jobs", gzip.compress(JOB), JSON, encoding).status_code == 202


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "compress", "gzip, gzip", "gzip, identity", "utf-8"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/files", "/v1/batches", "/batches"])
def test_another_encoding_is_refused(customer: Customer, path: str, encoding: str) -> None:
    response = send(customer, path, JOB, JSON, encoding)
    error = refusal(response, 415)
    assert (error["type"], error["code"]) == ("invalid_request_error", "unsupported_content_encoding")
    assert repr(encoding) in error["message"]
    assert response.headers["Accept-Encoding"] == "gzip"


def damaged(packed: bytes) -> dict[str, bytes]:
    middle, flipped = len(packed) // 2, bytearray(packed)
    flipped[-6] ^= 1
    return {
        "nothing": b"",
        "plain": b"not packed at all",
        "half a header": packed[:5],
        "cut in the middle": packed[:middle],
        "cut in the trailer": packed[:-3],
        "other bytes in the middle": packed[: middle - 4] + b"\xff" * 8 + packed[middle + 4 :],
        "another checksum": bytes(flipped),
        "text behind": packed + b"text",
        "zeros behind": packed + bytes(8),
        "half a member behind": packed + packed[:middle],
        "zlib": zlib.compress(b"text"),
    }


@pytest.mark.parametrize("how", damaged(b"0" * 40))
@pytest.mark.parametrize(
    ("path", "content", "content_type"),
    [("/v1/jobs", JOB, JSON), ("/v1/batches", CSV_FORM, MULTIPART), ("/v1/files", JSONL_FORM, MULTIPART)],
    ids=["job", "batch", "file"],
)
def test_gzip_that_is_not_whole_is_refused_and_nothing_stored(
    new_customer: NewCustomer, path: str, content: bytes, content_type: str, how: str
) -> None:
    customer = new_customer()
    for packed in (sent := damaged(gzip.compress(content))[how]), in_chunks(sent):
        error = refusal(send(customer, path, packed, content_type), 400)
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_content_encoding")
    for kind in ("jobs", "batches", "files"):
        assert answer(customer.get(f"/v1/{kind}"))["data"] == []


def test_limits_hold_for_what_is_unpacked(customer: Customer) -> None:
    over_body = gzip.compress(json.dumps({"model": "sim", "prompt": "x" * MAX_BODY_BYTES}).encode())
    assert refusal(send(customer, "/v1/jobs", over_body, JSON), 413)["code"] == "body_too_large"
    over_upload = gzip.compress(form(b"text\n" + b"x" * MAX_UPLOAD_BYTES, model="sim", prompt="About {{text}}"))
    for path in ("/v1/batches", "/v1/files"):
        assert refusal(send(customer, path, over_upload, MULTIPART), 413)["type"] == "invalid_request_error"


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """The beginning of a form and a gigabyte of zeros."""
    packer = zlib.compressobj(1, wbits=31)
    packed = [packer.compress(CSV_FORM[: -len(BOUNDARY) - 10])]
    zeros = bytes(MIB)
    packed += [packer.compress(zeros) for _ in range(1024)]
    return b"".join([*packed, packer.flush()])


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches", "/v1/files"])
def test_a_bomb_is_refused_and_costs_little(stack: Stack, customer: Customer, bomb: bytes, path: str) -> None:
    def attack(_: int) -> None:
        with Customer(stack.base_url, customer.key) as attacker:
            refusal(send(attacker, path, bomb, JSON if path == "/v1/jobs" else MULTIPART), 413)

    with Growth(web=stack.processes["web"].pid) as growth, ThreadPoolExecutor(4) as threads:
        list(threads.map(attack, range(4)))
    assert growth.of("web") < MAX_GROWTH_MIB


def test_an_empty_body_in_gzip_is_an_empty_body(customer: Customer) -> None:
    assert refusal(send(customer, "/v1/jobs", gzip.compress(b""), JSON), 400)["code"] == "invalid_json"


def test_a_request_after_a_refused_one_is_read_from_its_beginning(customer: Customer) -> None:
    buffer = io.BytesIO(gzip.compress(JOB) + b"text behind")
    for _ in range(3):
        refusal(send(customer, "/v1/jobs", buffer.getvalue(), JSON), 400)
        assert send(customer, "/v1/jobs", gzip.compress(JOB), JSON).status_code == 202
