"""Reading batch files in JSON lines: which lines are requests, what is said of the others, and both ways of judging."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common import jsonl_rows
from common.endpoints import PROMPT_FIELDS
from common.errors import LineError
from common.input_rows import BadRow, InputRow, JobRow
from common.jsonl_rows import BOM, MAX_LINE_BYTES
from common.plans import OWN_FILE
from common.plans import read as read_plans
from common.reservations import Reserver
from tests.process_settings import process_settings
from tests.unit.test_settings import GOOD as GOOD_SETTINGS

CHAT = "/v1/chat/completions"
ALLOWED = "sim"
PLAN = read_plans(OWN_FILE)["pro"]


@pytest.fixture(autouse=True, scope="module")
def with_settings() -> Iterator[None]:
    with process_settings(GOOD_SETTINGS):
        yield


def is_allowed(model: str) -> bool:
    return model.startswith(ALLOWED)


def request(endpoint: str = CHAT, **fields: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "Hi"}] if endpoint == CHAT else "Hi"
    body = {"model": "sim", PROMPT_FIELDS[endpoint]: prompt}
    return {"custom_id": "a", "method": "POST", "url": endpoint, "body": body} | fields


GOOD = json.dumps(request()).encode()
# Its body as it is sent on: a request that sets no bound has its plan's.
BOUNDED = request()["body"] | {"max_completion_tokens": PLAN.default_output_tokens}


def read(content: bytes) -> list[InputRow]:
    return list(jsonl_rows.read(io.BytesIO(content), CHAT, is_allowed, Reserver(CHAT, PLAN)))


def codes(content: bytes) -> list[tuple[str, int]]:
    """The code of each row's error, "" for a request, with its line."""
    errors = [row.error if isinstance(row, BadRow) else row for row in read(content)]
    return [(error.code if isinstance(error, LineError) else "", error.line) for error in errors]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (GOOD, [1]),
        (GOOD + b"\n", [1]),
        (GOOD + b"\n" + GOOD, [1, 2]),
        (GOOD + b"\r\n" + GOOD + b"\r\n", [1, 2]),
        (BOM + GOOD + b"\n" + GOOD, [1, 2]),
        (b"\n\r\n \t\n" + GOOD + b"\n\n\n" + GOOD + b"\n\n", [4, 7]),
        (BOM + b"\n" + GOOD, [2]),
        (b" \t" + GOOD + b" \r\n", [1]),
    ],
)
def test_line_ends_blank_lines_and_a_byte_order_mark_do_no_harm(content: bytes, lines: list[int]) -> None:
    assert codes(content) == [("", line) for line in lines]
    assert all(isinstance(row, JobRow) and json.loads(row.body) == BOUNDED for row in read(content))


def test_a_body_goes_on_as_it_was_written() -> None:
    body = b'{ "messages" : ["\\u00e9\xc3\xa9\\/"],"model":"sim" , "seed":1.50e0 }'
    line = b'{"url":"/v1/chat/completions","body":%b,"method":"POST","custom_id":"\\u00e9"}' % body
    [row] = read(line)
    assert isinstance(row, JobRow)
    assert (row.line, row.custom_id, row.body) == (1, "é", body[:-1] + b',"max_completion_tokens":4096}')


def padded(length: int) -> bytes:
    """A request of so many bytes."""
    shortest = json.dumps(request(pad="")).encode()
    return json.dumps(request(pad="x" * (length - len(shortest)))).encode()


@pytest.mark.parametrize("start", [b"", BOM])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_may_have_a_mebibyte_and_no_more_beside_its_end(start: bytes, end: bytes) -> None:
    for over in (-2, -1, 0):
        assert codes(start + padded(MAX_LINE_BYTES + over) + end) == [("", 1)]
    for over in (1, 2, 3, 4, 5, 6, MAX_LINE_BYTES, 3 * MAX_LINE_BYTES):
        content = start + padded(MAX_LINE_BYTES + over) + end
        assert codes(content) == [("line_too_long", 1)]
    assert codes(start + padded(5 * MAX_LINE_BYTES) + b"\n" + GOOD) == [("line_too_long", 1), ("", 2)]


def test_a_line_that_ends_in_many_carriage_returns_is_one_line() -> None:
    for returns in range(1, 8):
        content = GOOD + b"\n" + padded(MAX_LINE_BYTES) + b"\r" * returns + GOOD + b"\n" + GOOD
        assert codes(content) == [("", 1), ("line_too_long", 2), ("", 3)]


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -0.0, 1e308, 5e-324, 2**63, 2**64, 10**400])
TEXTS = st.text(st.characters(exclude_categories=()), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ABSENT = object()


def often(usual: Any, *rarer: Any) -> st.SearchStrategy[Any]:
    """Mostly what is right: a request is told from another only when little is wrong with it."""
    return st.one_of(st.just(usual), st.just(usual), st.sampled_from(rarer), st.just(ABSENT), VALUES)


def some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    chosen = st.fixed_dictionaries(fields)
    return chosen.map(lambda found: {name: value for name, value in found.items() if value is not ABSENT})


def bodies(endpoint: str) -> st.SearchStrategy[Any]:
    fields = {
        "model": often("sim", "sim-400", "other", "", " ", "sim\0", "sim" * 100, "sim\ud800"),
        PROMPT_FIELDS[endpoint]: often([{"role": "user", "content": "Hi"}], "Hi", "", " \n", [], [1], "\udc00"),
        "stream": often(False, True, None, 0, 1, "", []),
        "x": VALUES,
    }
    return some(fields) | VALUES


@st.composite
def lines(draw: st.DrawFn, endpoint: str) -> bytes:
    """A request, more or less, in one of the many ways to write it, maybe damaged on its way."""
    fields = {
        "custom_id": often("a", "", " ", "a\0", "i" * 512, "i" * 513, "é" * 512, "\ud800", 1),
        "method": often("POST", "GET", "post", " POST"),
        "url": often(endpoint, "/v1/models", endpoint + "/", endpoint.upper()),
        "body": bodies(endpoint),
    }
    members = list(draw(some(fields)).items())
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r: ")]))
    sent = dict(draw(st.permutations(members)))
    text = json.dumps(sent, ensure_ascii=draw(st.booleans()), separators=separators)
    line = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(line)))
        line[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from([b"", b"0", b"e9", b'"', b"\\", b"\0", b"\xe9"]))
    return bytes(line)


@pytest.mark.parametrize("endpoint", PROMPT_FIELDS)
@given(data=st.data())
def test_the_fast_way_and_the_slow_way_take_the_same_lines_for_the_same_requests(
    endpoint: str, data: st.DataObject
) -> None:
    check_both_ways(endpoint, data.draw(lines(endpoint)))


def check_both_ways(endpoint: str, line: bytes) -> None:
    reserver = Reserver(endpoint, PLAN)
    judge = jsonl_rows._Judge(endpoint, is_allowed, reserver)
    fast, slow = jsonl_rows._accepting(endpoint, judge.is_allowed, reserver)(1, line), judge.row(1, line)
    if fast is None:
        # Half a surrogate pair, escaped, is valid JSON that the faster parser refuses.
        assert not isinstance(slow, JobRow) or b"\\ud" in line.lower(), (line, slow)
    else:
        assert isinstance(slow, JobRow), (line, slow)
        assert (fast.custom_id, json.loads(fast.body)) == (slow.custom_id, json.loads(slow.body))
        assert abs(fast.tokens - slow.tokens) <= len(line)


SOUND = '"model":"sim","messages":["Hi"]'


@example("[" * 5_000 + "]" * 5_000)
@example("[" * 200_000)
@example("1e999")
@example("-1e999")
@example("9" * 400)
@example("9" * 5_000)
@example("9" * 400 + ".0")
@example("1e-999")
@example("NaN")
@example("-Infinity")
@example("01")
@example("1.")
@example(".5")
@example("[1,]")
@example('"\t"')
@example('"\\x"')
@example('"\x7f\\u0000"')
@given(st.text(st.sampled_from('0123456789.eE+-"\\ud8\t[]{},:aNtf '), max_size=8))
def test_whatever_json_a_body_holds_both_ways_judge_it_alike(value: str) -> None:
    line = f'{{"custom_id":"a","method":"POST","url":"{CHAT}","body":{{{SOUND},"x":{value}}}}}'
    check_both_ways(CHAT, line.encode())
