"""Prices of models, from a maintained price library with the operator's file over it.

A price is an integer of nano-dollars for a million tokens: $2.50 is 2,500,000,000. Prices as fine as a thousandth of a
cent per million tokens are then exact, which nano-dollars for one token would not be ($0.0375 is 37.5 of them).
"""

import sys
import time
import tomllib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path

from genai_prices import Usage, calc_price
from genai_prices.types import PriceCalculation

from common.models import stands_for
from common.money import NANO_DOLLARS_PER_DOLLAR
from common.settings import settings

MILLION = 10**6
FIELDS = {"prompt", "cached", "completion"}


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million prompt, cached prompt, and completion tokens."""

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


def price_of(model: str) -> Price | None:
    """The price of a model now, or None when neither the operator's file nor the library knows it."""
    return _price_at(model, int(time.time()) // 60)


@lru_cache(maxsize=4096)
def _price_at(model: str, minute: int) -> Price | None:
    """Some prices depend on the time of day, and changes are known ahead, so a price is remembered for a minute."""
    for name, price in _overrides().items():
        if stands_for(name, model):
            return price
    return _library_price(model)


def check_file() -> None:
    """Reads the operator's file, so that a program with a bad one stops when it starts: exits with status 2, saying
    what is wrong. Met later, the file would fail jobs whose calls are paid for."""
    try:
        _overrides()
    except ValueError as error:
        print(f"setting {error}", file=sys.stderr)
        sys.exit(2)


@lru_cache(maxsize=1)
def _overrides() -> dict[str, Price]:
    path = settings().prices_file
    return read_prices(Path(path)) if path else {}


def read_prices(path: Path) -> dict[str, Price]:
    """The operator's price file: a TOML table for each model with prompt, cached and completion in dollars for a
    million tokens, written as strings. A name that ends in * stands for all that begin so; the first that fits counts.
    Raises ValueError naming the model and the field that is wrong."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"PRICES_FILE {path}: {error}") from error
    prices = {}
    for model, table in tables.items():
        if not isinstance(table, dict) or not {"prompt", "completion"} <= set(table) <= FIELDS:
            raise ValueError(f"PRICES_FILE {path}: [{model}] needs prompt and completion, and may have cached")
        amounts = {name: _nano_dollars(path, model, name, value) for name, value in table.items()}
        prices[model] = Price(amounts["prompt"], amounts.get("cached", amounts["prompt"]), amounts["completion"])
    return prices


def _nano_dollars(path: Path, model: str, name: str, value: object) -> int:
    try:
        amount = Decimal(value) * NANO_DOLLARS_PER_DOLLAR if isinstance(value, str) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount < 0 or amount != int(amount):
        raise ValueError(f'PRICES_FILE {path}: [{model}] {name} must be dollars as a string, such as "2.50"')
    return int(amount)


def _library_price(model: str) -> Price | None:
    # Asked for the price of one thousand tokens of each kind: the library's tiers for long prompts start far above,
    # and a provider's own list is the only place where they could be applied to a bill exactly.
    try:
        return Price(
            _unit_price(model, Usage(input_tokens=1000)),
            _unit_price(model, Usage(input_tokens=1000, cache_read_tokens=1000)),
            _unit_price(model, Usage(output_tokens=1000)),
        )
    except LookupError:
        return None


def _unit_price(model: str, usage: Usage) -> int:
    return round(_calculate(usage, model).total_price * 1000 * NANO_DOLLARS_PER_DOLLAR)


def _calculate(usage: Usage, model: str) -> PriceCalculation:
    """By the provider's address; else by the model's name; else as OpenAI's, whose API this is."""
    try:
        return calc_price(usage, model, provider_api_url=settings().provider_url)
    except LookupError:
        pass
    try:
        return calc_price(usage, model)
    except LookupError:
        return calc_price(usage, model, provider_id="openai")
