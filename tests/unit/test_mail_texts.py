"""What mails say, whatever those who chose its values wrote."""

from html.parser import HTMLParser

import pytest

from common import mail_texts
from common.mail_texts import MAX_SHOWN_CHARACTERS, Template

LINK = "https://example.com/verify?token=a.b-c&next=%2Fkeys"
VALUES = {
    "link": LINK,
    "account": "Acme",
    "role": "developer",
    "invited_by": "ada@example.com",
    "until": "1 May 2026",
    "plan": "pro",
    "problem": "12 rows of the outbox were refused\n3 are late",
}
TEMPLATES: list[Template] = list(mail_texts._TEXTS)


class Read(HTMLParser):
    """What a reader sees of a page, its links, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str | None] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "style")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("template", TEMPLATES)
def test_both_forms_of_a_mail_say_the_same_and_show_nothing_from_elsewhere(template: Template) -> None:
    filled = mail_texts.fill(template, VALUES)
    read = Read(filled.html)
    assert [*filled.subject.split(), *filled.plain.split()] == read.text.split()
    assert read.tags <= {"html", "head", "meta", "title", "body", "p", "a", "br"}
    wants_link = LINK in filled.plain
    assert read.links == ([LINK] if wants_link else [])
    assert "{" not in filled.plain + filled.subject


def test_what_somebody_chose_is_text_on_one_line_and_no_markup() -> None:
    name = "</p><img src=//evil.example/x>\r\nSubject: x\n\n{link}\u202e\x00 %s \ud800"
    filled = mail_texts.fill("invitation", VALUES | {"account": name})
    read = Read(filled.html)
    assert read.links == [LINK]
    assert "img" not in read.tags
    assert "“</p><img src=//evil.example/x> Subject: x {link} %s”" in filled.plain
    assert "“</p><img src=//evil.example/x> Subject: x {link} %s”" in read.text
    filled.plain.encode()


def test_a_value_is_shown_up_to_its_limit() -> None:
    filled = mail_texts.fill("plan_changed", {"plan": "x" * 10_000})
    assert "x" * (MAX_SHOWN_CHARACTERS - 1) + "…" in filled.plain
    assert "x" * MAX_SHOWN_CHARACTERS not in filled.plain


def test_a_report_to_the_operator_keeps_its_lines() -> None:
    filled = mail_texts.fill("metering_alarm", VALUES)
    assert "12 rows of the outbox were refused\n3 are late\n" in filled.plain
    assert "12 rows of the outbox were refused<br>\n3 are late" in filled.html


def test_a_value_that_is_missing_is_an_error_where_the_mail_is_written() -> None:
    with pytest.raises(KeyError):
        mail_texts.fill("verify_email", {})
