"""Money is an integer of nano-dollars: a price of $2.50 per million tokens is 2,500 of them a token, exactly."""

import re

NANO_DOLLARS_PER_DOLLAR = 10**9
# As much as a bigint holds.
MAX_DOLLARS = 10**9


def parse_dollars(shown: str) -> int:
    """Nano-dollars of an exact amount such as "12.50". Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?", shown)
    if found is None or int(found[1]) >= MAX_DOLLARS:
        raise ValueError('is an amount in dollars as a string, such as "12.50"')
    return int(found[1]) * NANO_DOLLARS_PER_DOLLAR + int((found[2] or "").ljust(9, "0"))


def format_nano_dollars(amount: int) -> str:
    """The exact amount in dollars without trailing zeros: 1_500_000_000 is "1.5", 123_450 is "0.00012345", 0 is "0"."""
    dollars, nano_dollars = divmod(abs(amount), NANO_DOLLARS_PER_DOLLAR)
    sign = "-" if amount < 0 else ""
    fraction = f".{nano_dollars:09}".rstrip("0").rstrip(".")
    return f"{sign}{dollars}{fraction}"
