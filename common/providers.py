"""Who serves which model: the operator's models file, or one provider for all where there is none.

A model's name is what customers ask for; its upstream name is what its provider calls it. The file is TOML;
docs/providers.md shows one.
"""

import os
import sys
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from common.money import Price, price_in_nano_dollars
from common.settings import settings

# The provider of PROVIDER_URL and PROVIDER_API_KEY.
DEFAULT = "default"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Rate = Annotated[int, Field(ge=1, le=10**12)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Limits(_Table):
    """What all workers together keep to; None is no limit. A provider's own word in its headers goes below these."""

    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class ProviderSpec(Limits):
    """Where a provider is. `api_key_variable` names the environment variable that holds its key."""

    url: str
    api_key_variable: Annotated[str, Field(min_length=1)]

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")) or not urlsplit(value).hostname:
            raise ValueError("must be a URL that starts with http:// or https://")
        return value.rstrip("/")

    @property
    def api_key(self) -> SecretStr:
        """Only a worker has it. Raises LookupError when the environment does not."""
        found = os.environ.get(self.api_key_variable)
        if not found:
            raise LookupError(f"the environment variable {self.api_key_variable} is not set")
        return SecretStr(found)


class _Prices(_Table):
    """Dollars for a million tokens, as strings, so that they are exact."""

    prompt: str
    completion: str
    cached: str | None = None

    @field_validator("prompt", "completion", "cached")
    @classmethod
    def _is_amount(cls, value: str | None) -> str | None:
        if value is not None:
            price_in_nano_dollars(value)
        return value

    @property
    def price(self) -> Price:
        cached = self.prompt if self.cached is None else self.cached
        return Price(*map(price_in_nano_dollars, (self.prompt, cached, self.completion)))


class ModelSpec(Limits):
    """A model, or all whose names begin alike where its name ends in *. `context` is the longest prompt in tokens;
    `fallbacks` are models of the file that serve instead, in this order, while it cannot."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    provider: Name = DEFAULT
    upstream: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    context: Annotated[int, Field(ge=1, le=10**9)] | None = None
    prices: _Prices | None = None
    fallbacks: Annotated[tuple[str, ...], Field(strict=False, max_length=8)] = ()

    def fits(self, model: str) -> bool:
        return model.startswith(self.name[:-1]) if self.name.endswith("*") else model == self.name


class Catalog(BaseModel):
    """The providers by name, and the models in the order of the file: the first that fits counts."""

    model_config = ConfigDict(frozen=True)

    providers: dict[str, ProviderSpec | None]
    models: tuple[ModelSpec, ...]

    def find(self, model: str) -> ModelSpec | None:
        return next((spec for spec in self.models if spec.fits(model)), None)

    def chain(self, model: str) -> Sequence[tuple[str, ModelSpec]]:
        """The model and its fallbacks, each with the name it goes by; empty for a model that nobody serves."""
        first = self.find(model)
        if first is None:
            return ()
        found = [(model, first)]
        for name in first.fallbacks:
            spec = self.find(name)
            assert spec is not None  # read() has seen to it
            found.append((name, spec))
        return found


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """The catalog of this process. Exits with status 2, saying what is wrong, when the file does not hold."""
    path = settings().models_file
    if path is None:
        return Catalog(providers={DEFAULT: None}, models=(ModelSpec(name="*"),))
    try:
        return read(Path(path))
    except ValueError as error:
        print(f"setting {error}", file=sys.stderr)
        sys.exit(2)


def check_keys() -> None:
    """Looks whether the environment has every provider's key, so that a worker without one stops when it starts: exits
    with status 2, naming it."""
    for name, provider in catalog().providers.items():
        try:
            _ = provider and provider.api_key
        except LookupError as error:
            print(f"setting MODELS_FILE: [providers.{name}] api_key_variable: {error}", file=sys.stderr)
            sys.exit(2)


@lru_cache(maxsize=4096)
def chain_of(model: str) -> Sequence[tuple[str, ModelSpec]]:
    """As Catalog.chain, remembered: it is asked for each row."""
    return catalog().chain(model)


def read(path: Path) -> Catalog:
    """The catalog of a models file. Raises ValueError naming the table and the value that is wrong."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"MODELS_FILE {path}: {error}") from error
    providers: dict[str, ProviderSpec | None] = {DEFAULT: None}
    models: list[ModelSpec] = []
    try:
        if unknown := set(tables) - {"providers", "models"}:
            raise ValueError(f"[{min(unknown)}] is neither [providers.*] nor [models.*]")
        for name, table in _tables(tables, "providers"):
            providers[name] = _parsed(ProviderSpec, f"providers.{name}", table)
        for name, table in _tables(tables, "models"):
            models.append(_parsed(ModelSpec, f'models."{name}"', table | {"name": name}))
        _check(providers, models)
    except ValueError as error:
        raise ValueError(f"MODELS_FILE {path}: {error}") from None
    return Catalog(providers=providers, models=tuple(models))


def _tables(tables: dict[str, object], kind: str) -> list[tuple[str, dict[str, object]]]:
    found = tables.get(kind, {})
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise ValueError(f"[{kind}] has a table for each of them, such as [{kind}.name]")
    return list(found.items())


Spec = TypeVar("Spec", bound=BaseModel)


def _parsed(kind: type[Spec], where: str, table: dict[str, object]) -> Spec:
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise ValueError(f"[{where}] {field}: {problem['msg']}") from None


def _check(providers: dict[str, ProviderSpec | None], models: Sequence[ModelSpec]) -> None:
    if not models:
        raise ValueError('it has no model: [models."*"] stands for all')
    for model in models:
        where = f'[models."{model.name}"]'
        if model.provider not in providers:
            raise ValueError(f"{where} provider: there is no [providers.{model.provider}]")
        if model.name.endswith("*") and model.upstream is not None:
            raise ValueError(f"{where} upstream: a name that stands for several has none of its own")
        for name in model.fallbacks:
            found = next((other for other in models if other.fits(name)), None)
            if found is None or found is model:
                raise ValueError(f"{where} fallbacks: {name!r} is no other model of the file")
