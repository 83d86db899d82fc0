"""Whatever JSON and whatever headers are sent to POST /v1/jobs, the answer is one of ours."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.customer import Customer, refusal

settings.register_profile("over HTTP", max_examples=200)
over_http = settings.get_profile("over HTTP")

FIELDS = [
    "model", "prompt", "system", "max_tokens", "max_completion_tokens", "temperature", "top_p", "frequency_penalty",
    "presence_penalty", "seed", "stop", "reasoning_effort", "response_format", "metadata", "endpoint", "body", "stream",
]  # fmt: skip
ENDPOINTS = ["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings"]
PROMPT_FIELDS = ["model", "messages", "input", "prompt", "stream"]

# Any character at all, also NUL and the halves of surrogate pairs: JSON can carry them.
TEXTS = st.text(st.characters(codec=None), max_size=20)
NUMBERS = st.integers() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(min_value=-(10**40))
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(["", " ", "\0", "\ud800", *ENDPOINTS])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
# The provider refuses this model at once, so that what is accepted costs nothing more.
MODELS = st.just("sim-400") | VALUES
BODIES = st.fixed_dictionaries(
    {}, optional={name: MODELS if name == "model" else VALUES for name in PROMPT_FIELDS} | {"\0": VALUES}
)
# Mostly right: a wrong value in one field alone gets further than a document that is wrong all over.
CHANGES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=2)
SHORT_FORMS = CHANGES.map(lambda changes: {"model": "sim-400", "prompt": "Hi"} | changes)
FULL_FORMS = st.fixed_dictionaries(
    {"endpoint": st.sampled_from(ENDPOINTS) | VALUES, "body": BODIES | VALUES}, optional={"metadata": VALUES}
)
ANYTHING = VALUES | st.dictionaries(st.sampled_from(FIELDS) | TEXTS, VALUES, max_size=6) | SHORT_FORMS | FULL_FORMS


def check(customer: Customer, content: bytes) -> None:
    response = customer.http.post("/v1/jobs", content=content)
    if response.status_code == 202:
        assert response.json()["object"] == "job"
        assert customer.get(response.headers["location"]).status_code == 200
    else:
        refusal(response, 400)


@given(sent=ANYTHING)
@over_http
def test_any_json_is_accepted_or_refused_and_never_fails(customer: Customer, sent: Any) -> None:
    check(customer, json.dumps(sent).encode())


@given(sent=SHORT_FORMS | FULL_FORMS, at=st.integers(min_value=0), instead=st.binary(max_size=3))
@over_http
def test_json_that_was_damaged_on_its_way_is_accepted_or_refused_and_never_fails(
    customer: Customer, sent: Any, at: int, instead: bytes
) -> None:
    content = json.dumps(sent).encode()
    at %= len(content)
    check(customer, content[:at] + instead + content[at + 1 :])


# What HTTP lets a header's value be: visible characters, those beyond ASCII, and blanks between them.
HEADER_BYTES = st.sampled_from([*range(0x21, 0x7F), *range(0x80, 0x100), 0x20, 0x09])
HEADER_VALUES = st.lists(HEADER_BYTES, max_size=60).map(lambda values: bytes(values).strip(b" \t"))
PREFERENCES = HEADER_VALUES | st.builds(
    lambda before, value, after: f"{before}wait{value}{after}".encode(),
    st.sampled_from(["", "a,", "respond-async; ", '"']),
    st.sampled_from(["", "=", "=5", "=0", "=61", "=1e1", '="7"', "=-1", "=05", "=5;wait=9", "=" + "9" * 400]),
    st.sampled_from(["", ", b", '"', " x"]),
)


@given(prefer=PREFERENCES)
@settings(over_http, max_examples=120)
def test_any_preference_is_heeded_ignored_or_refused_and_never_fails(customer: Customer, prefer: bytes) -> None:
    # A job without a prompt is refused in any case, so that nothing waits.
    headers = [(b"Prefer", prefer), (b"Content-Type", b"\xff; charset=\xfe")]
    response = customer.http.post("/v1/jobs", json={"model": "sim"}, headers=headers)
    assert refusal(response, 400)["param"] in ("prompt", "Prefer")


@given(bearer=HEADER_VALUES, key=st.none() | HEADER_VALUES, scheme=st.sampled_from([b"", b"Basic ", b"Bearer "]))
@settings(over_http, max_examples=120)
def test_any_credential_that_is_no_key_is_refused_and_never_fails(
    customer: Customer, bearer: bytes, key: bytes | None, scheme: bytes
) -> None:
    headers = [(b"Authorization", (scheme + bearer).strip())]
    if key is not None:
        headers.append((b"X-API-Key", key))
    refusal(customer.http.post("/v1/jobs", json={"model": "sim", "prompt": "Hi"}, headers=headers), 401)


OTHER_HEADERS = [b"x-request-id", b"Cookie", b"Accept", b"Accept-Encoding", b"X-Forwarded-For"]


@given(headers=st.dictionaries(st.sampled_from(OTHER_HEADERS), HEADER_VALUES, min_size=1))
@settings(over_http, max_examples=120)
def test_no_other_header_makes_a_request_fail(customer: Customer, headers: dict[bytes, bytes]) -> None:
    refusal(customer.http.post("/v1/jobs", json={"model": "sim"}, headers=headers), 400)


@given(encoding=HEADER_VALUES)
@settings(over_http, max_examples=60)
def test_a_content_encoding_that_is_not_read_is_named(customer: Customer, encoding: bytes) -> None:
    response = customer.http.post("/v1/jobs", json={"model": "sim"}, headers={b"Content-Encoding": encoding})
    refusal(response, 400 if encoding.strip(b" \t").lower() in (b"", b"identity", b"gzip", b"x-gzip") else 415)
