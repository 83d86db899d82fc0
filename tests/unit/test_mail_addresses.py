"""What is an address, and what would be more than one to a mail server."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common import ids, mail_addresses
from common.errors import InvalidRequest
from common.mail_addresses import is_address
from common.mail_texts import Text
from worker.mail_claims import ClaimedMail
from worker.mail_message import message

TAKEN = (
    "ada@example.com",
    "ada.lovelace+batch@mail.example.co.uk",
    "o'brien@example.com",
    "a@b",
    "jörg@bücher.example",
    "用户@例子.公司",
    "x" * 64 + "@example.com",
)
REFUSED = (
    "",
    "ada",
    "@example.com",
    "ada@",
    "ada@@example.com",
    "ada@example..com",
    "ada@example.com.",
    "ada@-example.com",
    ".ada@example.com",
    "ada.@example.com",
    "a..a@example.com",
    "ada @example.com",
    "ada@example.com ",
    "ada@example.com\n",
    "ada@example.com\r\nRCPT TO:<eve@example.com>",
    "ada@example.com>\r\nDATA",
    "ada@example.com,eve@example.com",
    "Ada <ada@example.com>",
    '"ada"@example.com',
    "ada(comment)@example.com",
    "ada@[127.0.0.1]",
    "ada\x00@example.com",
    "ada\u2028@example.com",
    "\ud800@example.com",
    "x" * 65 + "@example.com",
    "ü" * 33 + "@example.com",
    "ada@" + "x" * 251,
    # Mail for these would go to another domain: strasse.example, example.com, viii.example, and nowhere.
    "ada@straße.example",
    "ada@\uff45xample.com",
    "ada@\u2177.example",
    "ada@" + "ü" * 64 + ".example",
)


@pytest.mark.parametrize("address", TAKEN)
def test_addresses_are_taken(address: str) -> None:
    mail_addresses.check(address)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_or_more_than_one_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        mail_addresses.check(text, "new_email")
    assert refused.value.param == "new_email"


@given(st.text())
@example("a@b\x85")
def test_nothing_that_ends_a_line_or_a_path_is_an_address(text: str) -> None:
    for whole in (text, f"a{text}@example.com", f"a@example.com{text}"):
        if is_address(whole):
            assert whole.isprintable()
            assert not set(whole) & set(' <>,;:"()[]\\')
            assert whole.count("@") == 1


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_mail_goes_to_the_domain_that_an_address_shows_and_to_no_other(label: str) -> None:
    address = f"ada@{label}.example"
    if is_address(address):
        mail = ClaimedMail(ids.new_id(), 1, address, "verify_email", datetime.now(UTC), None)
        (to,) = message(mail, Text("Hello", "plain", "<p>html</p>"), ("", "no-reply@example.com"))["To"].addresses
        assert to.domain.encode().decode("idna").lower() == f"{label}.example".lower()
