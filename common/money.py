"""Money is an integer of nano-dollars: a price of $2.50 per million tokens is 2,500 of them a token, exactly."""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

NANO_DOLLARS_PER_DOLLAR = 10**9
NANO_DOLLARS_PER_CENT = 10**7
# An exact amount; a bigint holds the nano-dollars of nine digits of dollars.
DOLLARS = r"[0-9]{1,9}(\.[0-9]{1,9})?"
MILLION = 10**6


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million prompt, cached prompt, and completion tokens: $2.50 is 2,500,000,000. Prices as fine
    as a thousandth of a cent per million tokens are then exact, which nano-dollars for one token would not be ($0.0375
    is 37.5 of them)."""

    prompt: int
    cached: int
    completion: int

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """Nano-dollars of a call, rounded up to the next one. `cached_tokens` are part of `prompt_tokens`."""
        exact = (
            (prompt_tokens - cached_tokens) * self.prompt
            + cached_tokens * self.cached
            + completion_tokens * self.completion
        )
        return -(-exact // MILLION)


def price_in_nano_dollars(dollars: object) -> int:
    """Of a price in dollars as a string, such as "0.0375". Raises ValueError."""
    try:
        amount = Decimal(dollars) * NANO_DOLLARS_PER_DOLLAR if isinstance(dollars, str) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount < 0 or amount != int(amount):
        raise ValueError('must be dollars as a string, such as "2.50"')
    return int(amount)


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
