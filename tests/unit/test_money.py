from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import format_nano_dollars


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (123_450, "0.00012345"),
        (1_500_000_000, "1.5"),
        (10_000_000_000, "10"),
        (-500_000_000, "-0.5"),
        (9_223_372_036_854_775_807, "9223372036.854775807"),
    ],
)
def test_an_amount_is_written_in_dollars_without_trailing_zeros(amount: int, text: str) -> None:
    assert format_nano_dollars(amount) == text


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_amount_is_written_exactly(amount: int) -> None:
    text = format_nano_dollars(amount)
    assert Decimal(text) * 10**9 == amount
    assert not ("." in text and text.endswith("0"))
