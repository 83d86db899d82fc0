"""Templates say what is wrong with them, and a body is byte for byte what json.dumps makes of the plain dict."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.body_template import BodyTemplate
from common.errors import InvalidRequest
from common.prompt_template import Template

COLUMNS = ("review_id", "Product name", " price ", "größe, cm", "twice", "twice", "")
ROW = ["r1", "Kettle", "9.50", "12", "a", "b", "e"]


def refusal(text: str, columns: tuple[str, ...] = COLUMNS, param: str = "prompt") -> str:
    with pytest.raises(InvalidRequest) as caught:
        Template.parse(text, columns, param)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{review_id}}", "r1"),
        ("{{ review_id }}: {{\tProduct name\n}}!", "r1: Kettle!"),
        ("{{price}}{{price}}", "9.509.50"),
        ("{{größe, cm}}", "12"),
        ("no column at all 100%s", "no column at all 100%s"),
        ('{"id": {{review_id}}}', '{"id": r1}'),
        ('{"a": {"id": {{review_id}}}}', '{"a": {"id": r1}}'),
        ("{{{review_id}}}", "{r1}"),
        ("a } b }} c { d {x}", "a } b }} c { d {x}"),
    ],
)
def test_a_template_puts_the_cells_where_their_columns_are_named(text: str, expected: str) -> None:
    assert Template.parse(text, COLUMNS).render(ROW) == expected


def test_a_cell_that_looks_like_a_placeholder_is_left_alone() -> None:
    assert Template.parse("{{a}} {{b}}", ("a", "b")).render(["{{b}}", "%s {0} \\1"]) == "{{b}} %s {0} \\1"


def test_an_unknown_column_is_named_with_the_columns_there_are() -> None:
    message = refusal("Rate {{reveiw}}", ("id", "review"), "system")
    assert "'reveiw'" in message
    assert "'id', 'review'" in message


def test_a_list_of_thousands_of_columns_is_cut() -> None:
    message = refusal("{{x}}", tuple(f"c{i}" for i in range(5_000)))
    assert "'c49' and 4,950 more" in message
    assert len(message) < 1_000


def test_a_column_that_the_file_has_twice_is_refused_only_where_it_is_named() -> None:
    assert "2 times" in refusal("{{twice}}")
    assert "2 times" in refusal("{{a}}", ("a", " a"))
    Template.parse("{{price}}", COLUMNS)


@pytest.mark.parametrize(
    "text", ["{{review_id", "{{review_id}", "a {{ b {{review_id}}", "{{a{b}}", "{{{{review_id}}}}"]
)
def test_braces_that_are_not_closed_are_refused(text: str) -> None:
    assert "does not close" in refusal(text)


@pytest.mark.parametrize("text", ["{{}}", "a {{  }} b"])
def test_braces_without_a_name_are_refused_even_if_a_column_has_none(text: str) -> None:
    assert "no column named" in refusal(text)


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_template_is_refused(text: str) -> None:
    assert "empty" in refusal(text)


# Every character there is: controls, NUL, half surrogates, and what JSON escapes.
TEXT = st.text(max_size=20) | st.text(st.sampled_from('"\\/%s{}\0\x1f\x7f\x85\u2028\ud800\udfff\n\té😀'), max_size=20)
LITERAL = TEXT.map(lambda text: text.replace("{", "").replace("}", ""))
OPTIONS = st.dictionaries(
    st.sampled_from(["max_tokens", "temperature", "response_format", "stop"]),
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(TEXT)
    | st.fixed_dictionaries({"type": TEXT}),
)
PARTS = st.lists(LITERAL | st.integers(0, 2), min_size=1)


def filled(parts: list[str | int], row: list[str]) -> str:
    return "".join(row[part] if isinstance(part, int) else part for part in parts)


def parsed(parts: list[str | int], param: str) -> Template:
    return Template.parse(
        "".join(f"{{{{c{p}}}}}" if isinstance(p, int) else p for p in parts), ("c0", "c1", "c2"), param
    )


@given(
    prompt=PARTS.filter(lambda parts: any(isinstance(p, int) or p.strip() for p in parts)),
    system=st.none() | PARTS.filter(lambda parts: any(isinstance(p, int) or p.strip() for p in parts)),
    model=TEXT,
    options=OPTIONS,
    # Cells come from files, and no file holds half of a surrogate pair.
    row=st.lists(TEXT.map(lambda text: text.encode(errors="replace").decode()), min_size=3, max_size=3),
)
def test_a_body_is_what_json_dumps_makes_of_the_plain_dict(
    prompt: list[str | int], system: list[str | int] | None, model: str, options: dict[str, Any], row: list[str]
) -> None:
    template = BodyTemplate(
        model=model,
        prompt=parsed(prompt, "prompt"),
        system=parsed(system, "system") if system is not None else None,
        options=options,
    )
    messages = [{"role": "user", "content": filled(prompt, row)}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": filled(system, row)})
    body = {"model": model, "messages": messages, **options}
    expected = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    assert template.render(row) == (expected, not filled(prompt, row).strip())
    assert parsed(prompt, "prompt").render(row) == filled(prompt, row)


@pytest.mark.parametrize(
    ("text", "row", "is_empty"),
    [
        ("{{a}}", ["", "x"], True),
        (" {{a}}\n{{b}}", [" \t", "\u3000\xa0"], True),
        ("{{a}}{{b}}", ["", "x"], False),
        ("Rate: {{a}}", ["", ""], False),
    ],
)
def test_a_prompt_is_empty_when_nothing_but_blanks_is_left_of_it(text: str, row: list[str], is_empty: bool) -> None:
    system = Template.parse("You rate.", ("a", "b"))
    template = BodyTemplate(model="m", prompt=Template.parse(text, ("a", "b")), system=system)
    assert template.render(row)[1] is is_empty
