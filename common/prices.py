"""Prices of models, from a maintained price library with the operator's files over it."""

import sys
import time
import tomllib
from functools import lru_cache
from pathlib import Path

from genai_prices import Usage, calc_price
from genai_prices.types import PriceCalculation

from common.models import stands_for
from common.money import NANO_DOLLARS_PER_DOLLAR, Price, price_in_nano_dollars
from common.providers import catalog, chain_of
from common.settings import settings

FIELDS = {"prompt", "cached", "completion"}


def price_of(model: str) -> Price | None:
    """The price of a model now, or None when neither the operator's files nor the library know it."""
    return _price_at(model, int(time.time()) // 60)


def highest_price_of(model: str) -> Price | None:
    """What a job costs at most, whoever of the model and its fallbacks serves it; None when one's price is not
    known."""
    found = [price_of(name) for name, _ in chain_of(model)] or [price_of(model)]
    prices = [price for price in found if price is not None]
    if len(prices) < len(found):
        return None
    return Price(*(max(getattr(price, kind) for price in prices) for kind in ("prompt", "cached", "completion")))


@lru_cache(maxsize=4096)
def _price_at(model: str, minute: int) -> Price | None:
    """Some prices depend on the time of day, and changes are known ahead, so a price is remembered for a minute."""
    spec = catalog().find(model)
    if spec is not None and spec.prices is not None:
        return spec.prices.price
    for name, price in _overrides().items():
        if stands_for(name, model):
            return price
    provider = catalog().providers[spec.provider] if spec is not None else None
    url = settings().provider_url if provider is None else provider.url
    return _library_price((spec and spec.upstream) or model, url)


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
        return price_in_nano_dollars(value)
    except ValueError as error:
        raise ValueError(f"PRICES_FILE {path}: [{model}] {name} {error}") from None


def _library_price(model: str, url: str) -> Price | None:
    # Asked for the price of one thousand tokens of each kind: the library's tiers for long prompts start far above,
    # and a provider's own list is the only place where they could be applied to a bill exactly.
    try:
        return Price(
            _unit_price(model, url, Usage(input_tokens=1000)),
            _unit_price(model, url, Usage(input_tokens=1000, cache_read_tokens=1000)),
            _unit_price(model, url, Usage(output_tokens=1000)),
        )
    except LookupError:
        return None


def _unit_price(model: str, url: str, usage: Usage) -> int:
    return round(_calculate(usage, model, url).total_price * 1000 * NANO_DOLLARS_PER_DOLLAR)


def _calculate(usage: Usage, model: str, url: str) -> PriceCalculation:
    """By the provider's address; else by the model's name; else as OpenAI's, whose API this is."""
    try:
        return calc_price(usage, model, provider_api_url=url)
    except LookupError:
        pass
    try:
        return calc_price(usage, model)
    except LookupError:
        return calc_price(usage, model, provider_id="openai")
