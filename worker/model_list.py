"""The models that there are, asked for now and then, so that customers can list what they may ask for."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import openai
from openai.types import Model
from sqlalchemy import text

from common.database import owner_engine
from common.providers import ProviderSpec, catalog
from worker import answers, provider

log = logging.getLogger(__name__)

MAX_MODELS = 10_000


class _Listed(NamedTuple):
    owned_by: str
    created: int


def refresh() -> None:
    """Stores what there is now: the models of the operator's file, and what the providers list of those that it does
    not name one by one. A provider that lists none, as many servers do, leaves what was there."""
    found: dict[str, _Listed] = {}
    for name, spec in catalog().providers.items():
        for model in _list(name, spec):
            serving = catalog().find(model.id)
            if serving is not None and serving.provider == name and serving.name != model.id:
                created = model.created if isinstance(model.created, int) else 0
                found[answers.storable(model.id)] = _Listed(answers.storable(str(model.owned_by or "")), created)
    for model_spec in catalog().models:
        if not model_spec.name.endswith("*"):
            found[model_spec.name] = _Listed(model_spec.provider, 0)
    if found:
        _store(found)


def _list(name: str, spec: ProviderSpec | None) -> Sequence[Model]:
    try:
        with provider.client(spec) as client:
            listed = client.models.list()
            return [model for model, _ in zip(listed, range(MAX_MODELS), strict=False) if isinstance(model.id, str)]
    except (openai.OpenAIError, ValueError) as error:
        # A ValueError is an answer that is no JSON.
        log.info("a provider does not list its models", extra={"provider": name, "error": type(error).__name__})
        return ()


def _store(models: Mapping[str, _Listed]) -> None:
    parameters = {
        "ids": list(models),
        "owners": [model.owned_by for model in models.values()],
        "created": [model.created for model in models.values()],
    }
    with owner_engine().begin() as connection:
        connection.execute(_STORE, parameters)
        connection.execute(_FORGET)


_STORE = text("""
    INSERT INTO models (id, owned_by, created, seen_at)
    SELECT id, owned_by, created, clock_timestamp()
    FROM unnest(CAST(:ids AS text[]), CAST(:owners AS text[]), CAST(:created AS bigint[])) AS m (id, owned_by, created)
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET owned_by = excluded.owned_by, created = excluded.created, seen_at = excluded.seen_at
""")

_FORGET = text("DELETE FROM models WHERE seen_at < now() - interval '1 minute'")
