"""The provider's models, asked for now and then, so that customers can list what they may ask for."""

import logging
from collections.abc import Sequence

import openai
from openai.types import Model
from sqlalchemy import text

from common.database import owner_engine
from worker import answers, provider

log = logging.getLogger(__name__)

MAX_MODELS = 10_000


def refresh() -> None:
    """Stores what the provider lists now. One that lists none, as many servers do, leaves what was there."""
    try:
        with provider.client() as client:
            found = [model for model, _ in zip(client.models.list(), range(MAX_MODELS), strict=False)]
    except (openai.OpenAIError, ValueError) as error:
        # A ValueError is an answer that is no JSON.
        log.info("the provider does not list its models", extra={"error": type(error).__name__})
        return
    if found:
        _store(found)


def _store(models: Sequence[Model]) -> None:
    listed = {answers.storable(str(model.id)): model for model in models if model.id}
    parameters = {
        "ids": list(listed),
        "owners": [answers.storable(str(model.owned_by or "")) for model in listed.values()],
        "created": [model.created if isinstance(model.created, int) else 0 for model in listed.values()],
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
