"""The models a customer may ask for: what the provider says it serves, as far as the operator and the plan allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from common.database import web_engine
from common.errors import InvalidRequest, NotFound, PermissionDenied
from common.plans import Plan
from common.providers import chain_of


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the provider. `created` is in unix seconds, as the provider tells it."""

    id: str
    owned_by: str
    created: int


def is_allowed(plan: Plan, model: str) -> bool:
    """Whether this plan's customers may ask for the model, and somebody serves it. Where one provider serves all,
    whether it exists is said at the first call."""
    return any(stands_for(name, model) for name in plan.models) and bool(chain_of(model))


def stands_for(name: str, model: str) -> bool:
    """Whether a name that the operator wrote means the model; one that ends in * means all that begin so."""
    return model.startswith(name[:-1]) if name.endswith("*") else model == name


def check(plan: Plan, model: str) -> None:
    """Raises PermissionDenied for a model that this plan's customers may not ask for."""
    if not chain_of(model):
        raise InvalidRequest(
            f"There is no model {model[:200]!r}: GET /v1/models lists them.", param="model", code="model_not_found"
        )
    if not is_allowed(plan, model):
        raise PermissionDenied(
            f"Your plan, {plan.name}, does not have the model {model[:200]!r}; it has {', '.join(plan.models)}.",
            param="model",
            code="model_not_allowed",
        )


def list_all(plan: Plan) -> Sequence[Model]:
    """The provider's models that the plan allows, by name."""
    with web_engine().begin() as connection:
        found = [Model(*row) for row in connection.execute(_LIST)]
    return [model for model in found if is_allowed(plan, model.id)]


def get(plan: Plan, model_id: str) -> Model:
    """Raises NotFound, also for a model that the plan does not allow."""
    for model in list_all(plan):
        if model.id == model_id:
            return model
    raise NotFound(f"There is no model {model_id[:200]!r}.", param="model", code="model_not_found")


_LIST = text("SELECT id, owned_by, created FROM models ORDER BY id")
