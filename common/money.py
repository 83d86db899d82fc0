"""Money is an integer of nano-dollars: a price of $2.50 per million tokens is 2,500 of them a token, exactly."""

import re

NANO_DOLLARS_PER_DOLLAR = 10**9
# An exact amount; a bigint holds the nano-dollars of nine digits of dollars.
DOLLARS = r"[0-9]{1,9}(\.[0-9]{1,9})?"


def parse_dollars(shown: str) -> int:
    """Nano-dollars of an exact amount such as "12.50". Raises ValueError."""
    if not re.fullmatch(DOLLARS, shown):
        raise ValueError('is an amount in dollars as a string, such as "12.50"')
    dollars, _, fraction = shown.partition(".")
    return int(dollars) * NANO_DOLLARS_PER_DOLLAR + int(fraction.ljust(9, "0"))


def format_nano_dollars(amount: int) -> str:
    """The exact amount in dollars without trailing zeros: 1_500_000_000 is "1.5", 123_450 is "0.00012345", 0 is "0"."""
    dollars, nano_dollars = divmod(abs(amount), NANO_DOLLARS_PER_DOLLAR)
    sign = "-" if amount < 0 else ""
    fraction = f".{nano_dollars:09}".rstrip("0").rstrip(".")
    return f"{sign}{dollars}{fraction}"
