"""Money is an integer of nano-dollars: a price of $2.50 per million tokens is 2,500 of them a token, exactly."""

NANO_DOLLARS_PER_DOLLAR = 10**9


def format_nano_dollars(amount: int) -> str:
    """The exact amount in dollars without trailing zeros: 1_500_000_000 is "1.5", 123_450 is "0.00012345", 0 is "0"."""
    dollars, nano_dollars = divmod(abs(amount), NANO_DOLLARS_PER_DOLLAR)
    sign = "-" if amount < 0 else ""
    fraction = f".{nano_dollars:09}".rstrip("0").rstrip(".")
    return f"{sign}{dollars}{fraction}"
